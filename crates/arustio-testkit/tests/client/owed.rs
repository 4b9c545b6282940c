//! P1 to P3: what is owed is shown, waited for, and touches only what was recorded.

use std::sync::Arc;
use std::time::Duration;

use arustio_client::types::meta::Command;
use arustio_client::{CreateOptions, ErrorKind, FileSystem, PendingKind};
use arustio_testkit::s3::{FaultAction, FaultRule, Operation, Profile};

use crate::house::{BUCKET, House, SHORT, Short, fails, p, within};

const PROFILES: [Profile; 2] = [Profile::Aws, Profile::Minio];

#[tokio::test]
async fn p1_what_is_owed_is_shown_with_key_kind_age_and_the_last_error() {
    let (house, fs) = House::mounted().await;
    let brief = house.client_with(|config| config.session_ttl = SHORT).await;
    for key in ["f", "d/a", "d/b", "g"] {
        fs.write(&format!("/data/{key}"), "bytes").await.unwrap();
    }
    fs.mkdirs("/data/e").await;
    let broken = FaultRule::new(FaultAction::TooManyRequests);
    house.fault(broken.clone().on(Operation::DeleteObject));
    house.fault(broken.clone().on(Operation::CopyObject));
    house.fault(broken.on(Operation::CreateMultipartUpload));
    let writer = fs
        .create(&p("/data/w"), CreateOptions::default())
        .await
        .unwrap();
    let (one, tree, moved) = tokio::join!(
        brief.rm("/data/f"),
        brief.rm_r("/data/d"),
        brief.mv("/data/g", "/data/h"),
    );
    for error in [one.unwrap_err(), tree.unwrap_err(), moved.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let items = fs.owed().await;
    assert!(
        items.is_sorted_by_key(|item| std::cmp::Reverse(item.age)),
        "{items:?}"
    );
    let item = |text: &str| {
        let mut found = items.iter().filter(|item| item.what.contains(text));
        found
            .next()
            .unwrap_or_else(|| panic!("{text}: {items:?}"))
            .clone()
    };
    assert_eq!(items.len(), 4, "{items:?}");
    let write = item("write of /data/w");
    assert_eq!(
        (write.kind, write.on.as_str()),
        (PendingKind::Intent, "/data/w")
    );
    assert_eq!(write.last_error, None);
    for (what, on) in [
        ("removal of f", "f"),
        ("removal of everything below d/", "d/"),
        ("move of g to h", "/data/h"),
    ] {
        let effect = item(what);
        assert_eq!((effect.kind, effect.on.as_str()), (PendingKind::Effect, on));
        let error = effect.last_error.clone().unwrap_or_default();
        assert!(
            error.contains("busy") && error.contains(BUCKET),
            "{effect:?}"
        );
        assert!(!error.contains(crate::house::SECRET));
        let now = fs.owed().await;
        let later = now
            .iter()
            .find(|later| later.id == effect.id && later.kind == effect.kind);
        assert!(later.unwrap().age >= effect.age);
    }
    writer.abort().await.unwrap();
    house.s3.faults().clear();
    // What it failed at is its own until its session ends.
    brief.close().await.unwrap();
    fs.take_over_all().await;
    assert_eq!(
        fs.tree("/data").await.into_keys().collect::<Vec<_>>(),
        ["e", "h"]
    );
    assert_eq!(house.keys(), ["e/", "h"]);
}

#[tokio::test]
async fn p2_a_name_whose_removal_is_owed_is_finished_first_and_the_wait_is_told() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/f", "old").await.unwrap();
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
    let rule = house.fault(hang.key_prefix("f"));
    let victim = house.victim().await;
    let remover = victim.fs.clone();
    victim.start(async move { remover.rm("/data/f").await });
    house.struck(rule).await;
    victim.kill().await;
    house.s3.faults().clear();
    assert!(
        !fs.exists("/data/f").await,
        "the name went with the command"
    );
    let (other, said) = house.client_that_says().await;
    other.write("/data/f", "new").await.unwrap();
    assert_eq!(fs.read("/data/f").await.unwrap(), "new");
    assert_eq!(house.object("f").unwrap(), "new");
    assert_eq!(fs.owed().await, []);
    let lines = said.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("waiting for ") && lines[0].contains("/data/f"),
        "{lines:?}"
    );
    assert!(lines[0].contains("at most"), "{lines:?}");
}

#[tokio::test]
async fn p2_what_is_being_written_is_neither_removed_nor_moved_and_nothing_above_it_is() {
    let (house, fs) = House::mounted().await;
    fs.write("/data/d/f", "old").await.unwrap();
    let overwrite = CreateOptions {
        overwrite: true,
        ..CreateOptions::default()
    };
    let mut writer = fs.create(&p("/data/d/f"), overwrite).await.unwrap();
    let hasty = house
        .client_with(|config| config.pending_wait = Duration::from_millis(50))
        .await;
    for refused in [
        hasty.rm("/data/d/f").await.map(drop),
        hasty.rm_r("/data/d").await.map(drop),
        hasty.mv("/data/d/f", "/data/g").await,
        hasty.mv("/data/d", "/data/e").await,
    ] {
        let error = fails(refused, ErrorKind::Conflict);
        assert!(error.to_string().contains("/data/d/f"), "{error}");
        assert!(error.to_string().contains("pending"), "{error}");
    }
    assert_eq!(hasty.read("/data/d/f").await.unwrap(), "old");
    let (patient, said) = house.client_that_says().await;
    let removing = tokio::spawn(async move { patient.rm_r("/data/d").await });
    crate::house::eventually(async || match said.lines().is_empty() {
        true => Err("it does not wait".to_owned()),
        false => Ok(()),
    })
    .await;
    assert!(said.lines()[0].contains("/data/d/f"), "{:?}", said.lines());
    writer.write("new".into()).await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(within(removing).await.unwrap().unwrap(), 2);
    assert_eq!(house.keys(), Vec::<String>::new());
    assert_eq!(fs.names("/data").await, Vec::<String>::new());
}

#[tokio::test]
async fn p2_a_write_into_a_directory_right_after_its_removal_survives_it() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        let (began, begun) = tokio::sync::oneshot::channel();
        let began = parking_lot::Mutex::new(Some(began));
        let removing = house
            .client_with_hook(move |command| {
                // The names have gone; no object has.
                if let Command::Delete { .. } = command
                    && let Some(began) = began.lock().take()
                {
                    let _ = began.send(());
                }
            })
            .await;
        for i in 0..30 {
            fs.write(&format!("/data/d/sub/f{i}"), "old").await.unwrap();
        }
        let removal = tokio::spawn(async move { removing.rm_r("/data/d").await });
        begun.await.unwrap();
        fs.write("/data/d/sub/f7", "new").await.unwrap();
        fs.write("/data/d/g", "new").await.unwrap();
        within(removal).await.unwrap().unwrap();
        fs.nothing_owed().await;
        assert_eq!(house.object("d/sub/f7").unwrap(), "new");
        let left: Vec<_> = house
            .keys()
            .into_iter()
            .filter(|key| !key.ends_with('/'))
            .collect();
        assert_eq!(left, ["d/g", "d/sub/f7"]);
        fs.sync_all("/data").await;
        assert_eq!(fs.read("/data/d/g").await.unwrap(), "new");
        assert_eq!(fs.names("/data/d/sub").await, ["f7"]);
    }
}

#[tokio::test]
async fn p3_an_object_that_was_replaced_during_a_recursive_removal_survives() {
    for profile in PROFILES {
        let (house, fs) = House::mounted_with(profile).await;
        for i in 0..20 {
            house.put(&format!("d/f{i:02}"), "old");
        }
        let bucket = house.bucket();
        let removing = house
            .client_with_hook(move |command| {
                if let Command::Delete { .. } = command {
                    bucket.put(BUCKET, "d/f07", "replaced");
                    bucket.put(BUCKET, "d/unknown", "put there");
                }
            })
            .await;
        removing.rm_r("/data/d").await.unwrap();
        assert_eq!(house.keys(), ["d/f07", "d/unknown"]);
        assert_eq!(house.object("d/f07").unwrap(), "replaced");
        assert_eq!(fs.owed().await, []);
        fs.sync_all("/data").await;
        assert_eq!(fs.read("/data/d/f07").await.unwrap(), "replaced");
        assert_eq!(fs.names("/data/d").await, ["f07", "unknown"]);
    }
}

#[tokio::test]
async fn p3_whoever_takes_a_removal_over_spares_what_was_replaced_meanwhile() {
    let (house, fs) = House::mounted().await;
    let house = Arc::new(house);
    for i in 0..5 {
        fs.write(&format!("/data/d/f{i}"), "old").await.unwrap();
    }
    fs.write("/data/single", "old").await.unwrap();
    let hang = FaultRule::new(FaultAction::Hang).on(Operation::DeleteObject);
    let (tree, single) = (
        house.fault(hang.clone().key_prefix("d/")),
        house.fault(hang.key_prefix("single")),
    );
    let victim = house.victim().await;
    for path in ["/data/d", "/data/single"] {
        let remover = victim.fs.clone();
        victim.start(async move { remover.rm_r(path).await });
    }
    house.struck(tree).await;
    house.struck(single).await;
    victim.kill().await;
    house.s3.faults().clear();
    house.put("d/f3", "replaced");
    house.put("single", "replaced");
    fs.take_over_all().await;
    assert_eq!(house.keys(), ["d/f3", "single"]);
    fs.sync_all("/data").await;
    assert_eq!(fs.read("/data/d/f3").await.unwrap(), "replaced");
    assert_eq!(fs.read("/data/single").await.unwrap(), "replaced");
}
