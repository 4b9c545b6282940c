//! What operators type about block nodes, and what they read.

use arustio_testkit::s3::Operation;

use super::house::{BUCKET, House, eventually};

/// The only node, once it has said how full it is.
async fn listed(house: &House) -> String {
    eventually(async || {
        let text = house.run(&["--json", "admin", "node", "list"]).await.ok();
        match text.contains("\"capacity\":null") {
            true => Err(text),
            false => Ok(()),
        }
    })
    .await;
    house.run(&["admin", "node", "list"]).await.ok()
}

#[tokio::test]
async fn a_node_is_listed_drained_weighed_and_removed_by_its_number() {
    let house = House::mounted().await;
    let content = vec![7; 6 << 20];
    house.s3.backdoor().put(BUCKET, "f", content.clone());
    let table = listed(&house).await;
    let row = table.lines().nth(1).unwrap();
    for word in ["1 ", &house.address, "serves", "100"] {
        assert!(row.contains(word), "{word} in {table}");
    }
    house.run(&["fs", "cat", "/data/f"]).await;
    let capacity = house.run(&["admin", "report", "capacity"]).await.ok();
    assert!(
        capacity.contains("memory") && capacity.contains("\nall"),
        "{capacity}"
    );
    assert!(capacity.contains("HITS"), "{capacity}");
    let found = house.run(&["fs", "location", "/data/f"]).await.ok();
    assert!(
        found.contains("2 of 2 blocks") && found.contains("6 MiB"),
        "{found}"
    );
    let blocks = ["--json", "fs", "location", "--blocks", "/data/f"];
    let blocks = house.run(&blocks).await.ok();
    assert!(
        blocks
            .lines()
            .nth(1)
            .unwrap()
            .contains("\"offset\":4194304"),
        "{blocks}"
    );

    let said = house.run(&["admin", "node", "drain", "1"]).await.ok();
    assert!(said.contains("admin node remove 1"), "{said}");
    assert!(listed(&house).await.contains("draining"));
    // It is still read, and keeps the store out of it.
    let before = house.s3.stats().snapshot().requests(Operation::GetObject);
    house.run(&["fs", "cat", "/data/f"]).await;
    let after = house.s3.stats().snapshot().requests(Operation::GetObject);
    assert_eq!(before, after);
    house
        .run(&["admin", "node", "drain", "1", "--undo"])
        .await
        .ok();
    let weighed = house
        .run(&["admin", "node", "weight", "1", "40"])
        .await
        .ok();
    assert_eq!(weighed, "block node 1 has weight 40\n");

    let unknown = ["admin", "node", "drain", "9"];
    let words = ["there is no block node 9", "admin node list"];
    house.run(&unknown).await.fails("NotFound", 3, &words);
    let heavy = ["admin", "node", "weight", "1", "4000000000"];
    house
        .run(&heavy)
        .await
        .fails("InvalidArgument", 2, &["at most 1000000"]);
    house.run(&["admin", "node", "remove", "1"]).await.ok();
    let back = ["admin", "node", "drain", "1", "--undo"];
    house
        .run(&back)
        .await
        .fails("Conflict", 6, &["was removed"]);
    // Its server holds metadata as well, and goes on with that.
    let copy = house.path("copy");
    let copied = ["fs", "copy-to-local", "/data/f", copy.to_str().unwrap()];
    house.run(&copied).await.ok();
    assert!(std::fs::read(&copy).unwrap() == content);
    let list = ["--json", "admin", "node", "list"];
    assert!(
        house
            .run(&list)
            .await
            .ok()
            .contains("\"state\":\"removed\"")
    );
}
