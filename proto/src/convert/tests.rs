//! Round trips of every variant, and what is refused.

use std::collections::BTreeMap;

use arustio_types::FsPath;
use arustio_types::meta::credential::SecretOptions;
use arustio_types::meta::mount::{MountCapabilities, MountSpec};
use arustio_types::meta::query::Page;
use arustio_types::meta::sync::{SyncRequest, SyncTurn};
use arustio_types::meta::{Answer, Consistency, Query};
use proptest::prelude::*;

use super::*;
use crate::testing;

/// Equality of versions ignores the hint; the texts show it.
fn same<T: std::fmt::Debug>(left: &T, right: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(format!("{left:?}"), format!("{right:?}"));
    Ok(())
}

/// Through the bytes of the message, as it travels.
fn travelled<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn commands_round_trip(command in testing::command()) {
        let bytes = encode_command(&command).unwrap();
        same(&decode_command(&bytes).unwrap(), &command)?;
        prop_assert_eq!(encode_command(&command).unwrap(), bytes);
    }

    #[test]
    fn entries_round_trip(context in testing::context(), command in testing::command()) {
        let bytes = encode_entry(&context, &command).unwrap();
        same(&decode_entry(&bytes).unwrap(), &(context.clone(), command))?;
        same(&decode_context(&encode_context(&context)).unwrap(), &context)?;
    }

    #[test]
    fn outcomes_round_trip(outcome in testing::outcome()) {
        same(&decode_outcome(&encode_outcome(&outcome)).unwrap(), &outcome)?;
    }

    #[test]
    fn queries_round_trip(query in testing::query(), consistency in testing::consistency()) {
        let back = Query::try_from(travelled(wire::Query::from(&query))).unwrap();
        same(&back, &query)?;
        let back = Consistency::try_from(travelled(wire::Consistency::from(&consistency))).unwrap();
        same(&back, &consistency)?;
    }

    #[test]
    fn answers_round_trip(answer in testing::answer()) {
        let back = Answer::try_from(travelled(wire::Answer::from(&answer))).unwrap();
        prop_assert_eq!(&back, &answer);
        same(&back, &answer)?;
    }

    #[test]
    fn a_page_says_the_same_to_who_does_not_read_packed_ones(page in testing::page()) {
        let packed = Page::try_from(travelled(wire::PackedPage::from(&page))).unwrap();
        prop_assert_eq!(&packed, &page);
        let plain = Page::try_from(travelled(plain_page(&page))).unwrap();
        prop_assert!(plain.entries.statuses().eq(page.entries.statuses()));
        prop_assert!(packed.entries.statuses().eq(page.entries.statuses()));
        same(&(&plain.dir, &plain.next, plain.position), &(&page.dir, &page.next, page.position))?;
    }

    #[test]
    fn no_damage_of_a_packed_page_panics(
        page in testing::page(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        count in any::<u32>(),
    ) {
        let mut packed = wire::PackedPage::from(&page);
        let cut = packed.entries.slice(..at.index(packed.entries.len() + 1));
        let _ = Page::try_from(wire::PackedPage { count, ..packed.clone() });
        let _ = Page::try_from(wire::PackedPage { entries: cut, ..packed.clone() });
        if !packed.entries.is_empty() {
            let mut bytes = packed.entries.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            packed.entries = bytes.into();
            let _ = Page::try_from(packed);
        }
    }

    #[test]
    fn sync_turns_round_trip(request in testing::sync_request(), turn in testing::sync_turn()) {
        let back = SyncRequest::try_from(travelled(wire::SyncRequest::from(&request))).unwrap();
        same(&back, &request)?;
        let back = SyncTurn::try_from(travelled(wire::SyncTurn::from(&turn))).unwrap();
        same(&back, &turn)?;
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_command(&bytes);
        let _ = decode_outcome(&bytes);
        let _ = decode_entry(&bytes);
    }

    #[test]
    fn no_damage_panics(command in testing::command(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = encode_command(&command).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = decode_command(&bytes);
        let _ = decode_command(&bytes[..at]);
    }
}

fn mount_with(credential: Credential) -> Command {
    Command::Mount(MountSpec {
        path: FsPath::new("/data").unwrap(),
        uri: "s3://bucket/prefix".to_owned(),
        options: BTreeMap::new(),
        credential,
        readonly: false,
        shared: false,
        capabilities: MountCapabilities::default(),
        bound_to: None,
    })
}

fn clear() -> Credential {
    let values = [("secret_access_key".to_owned(), "hunter2".to_owned())];
    Credential::Clear(SecretOptions::new(values.into()))
}

#[test]
fn a_secret_in_clear_travels_but_is_never_recorded() {
    let command = mount_with(clear());
    assert_eq!(encode_command(&command), Err(ConvertError::SecretInClear));
    let context = RequestContext::default();
    assert_eq!(
        encode_entry(&context, &command),
        Err(ConvertError::SecretInClear)
    );
    let wire = encode_command_with_secrets(&command);
    assert_eq!(decode_command(&wire), Err(ConvertError::SecretInClear));
    assert_eq!(decode_command_with_secrets(&wire).unwrap(), command);
}

#[test]
fn no_debug_form_shows_a_secret() {
    let message = wire::Command::from(&mount_with(clear()));
    assert!(!format!("{message:?}").contains("hunter2"));
}

#[test]
fn a_newer_format_is_refused() {
    let newer = wire::Command {
        format: COMMAND_FORMAT + 1,
        kind: Some(wire::command::Kind::KeepSession(wire::KeepSession {})),
    };
    let error = decode_command(&newer.encode_to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 3"), "{error}");
}

#[test]
fn an_unknown_variant_is_refused() {
    // Field 2000, a length-delimited message: a variant from the future.
    let bytes = [0x08, 0x01, 0x82, 0x7d, 0x00];
    assert_eq!(
        decode_command(&bytes),
        Err(ConvertError::Missing { field: "command" })
    );
}

#[test]
fn bad_paths_and_long_texts_name_their_field() {
    let unmount = |path: &str| wire::Command {
        format: 1,
        kind: Some(wire::command::Kind::Unmount(wire::Unmount {
            path: path.to_owned(),
            force: false,
        })),
    };
    let error = decode_command(&unmount("/a/../b").encode_to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPath);
    assert!(error.to_string().starts_with("unmount.path"), "{error}");
    let long = wire::Command {
        format: 1,
        kind: Some(wire::command::Kind::EffectFailed(wire::EffectFailed {
            effect: 1,
            error: "x".repeat(100_000),
        })),
    };
    let error = decode_command(&long.encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("effect_failed.error"), "{error}");
    let huge = vec![0; MAX_COMMAND + 1];
    assert!(matches!(
        decode_command(&huge),
        Err(ConvertError::TooLong { .. })
    ));
}

#[test]
fn a_packed_page_of_a_later_format_is_refused_by_name() {
    let page = wire::PackedPage {
        format: PACKED_FORMAT + 1,
        ..wire::PackedPage::default()
    };
    let error = Page::try_from(page).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("upgrade this side"), "{error}");
}

#[test]
fn a_server_that_knows_no_packed_pages_is_asked_in_words_that_it_reads() {
    // What an earlier release reads of the question: three fields, the rest is skipped.
    let query = Query::List {
        path: FsPath::new("/data").unwrap(),
        after: Some("a".to_owned()),
        limit: 4_096,
    };
    let wire::Query {
        kind: Some(wire::query::Kind::List(list)),
    } = wire::Query::from(&query)
    else {
        panic!("another question");
    };
    assert_eq!(list.packed, PACKED_FORMAT);
    let earlier = wire::QueryList { packed: 0, ..list };
    let earlier = wire::Query {
        kind: Some(wire::query::Kind::List(earlier)),
    };
    same(&Query::try_from(earlier).unwrap(), &query).unwrap();
}
