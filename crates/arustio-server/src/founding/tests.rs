//! Who founds, who adopts, who joins, who is refused.

use super::*;

const KEY: Fingerprint = [1, 2, 3, 4];

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn host(number: u64) -> String {
    format!("host{number}:1")
}

fn me(number: u64) -> Me {
    Me {
        member: id(number),
        instance: u128::from(number),
        address: host(number),
        key: KEY,
        listed: (1..=3).map(|number| (id(number), host(number))).collect(),
    }
}

fn info(number: u64) -> MemberInfo {
    MemberInfo {
        address: host(number),
        instance: u128::from(number),
    }
}

fn founding() -> Founding {
    Founding {
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(8),
        founders: (1..=3).map(|number| (id(number), info(number))).collect(),
    }
}

fn empty(number: u64) -> Heard {
    Heard {
        member: id(number),
        instance: u128::from(number),
        key: KEY.to_vec(),
        listed: (1..=3).map(id).collect(),
        founding: None,
        members: None,
    }
}

fn founded(number: u64) -> Heard {
    Heard {
        founding: Some(founding()),
        ..empty(number)
    }
}

/// A member that knows of these members at a position.
fn knowing(number: u64, position: u64, members: &[(u64, u128)], removed: &[u64]) -> Heard {
    let member = |(number, instance): &(u64, u128)| {
        let address = host(*number);
        let instance = *instance;
        (id(*number), MemberInfo { address, instance })
    };
    Heard {
        members: Some(Members {
            position,
            members: members.iter().map(member).collect(),
            removed: removed.iter().copied().map(id).collect(),
            leader: None,
        }),
        ..founded(number)
    }
}

fn answers(heard: impl IntoIterator<Item = Heard>) -> Answers {
    let heard = heard.into_iter();
    heard.map(|heard| (heard.member, Ok(heard))).collect()
}

fn waits_for(step: Step, words: &str) {
    match step {
        Step::Wait(text) => assert!(text.contains(words), "{text}"),
        other => panic!("{other:?}"),
    }
}

fn ends_with(step: Step, kind: ErrorKind, words: &str) {
    match step {
        Step::End(unfit) => {
            assert_eq!(unfit.kind, kind);
            assert!(unfit.reason.contains(words), "{unfit}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_lowest_number_founds_when_all_have_answered_that_they_are_empty() {
    let all = answers([empty(2), empty(3)]);
    assert_eq!(decide(&me(1), &all), Step::Found(founding().founders));
    waits_for(
        decide(&me(2), &answers([empty(1), empty(3)])),
        "member 1 at host1:1 to found",
    );
}

#[test]
fn a_majority_does_not_found() {
    let mut some = answers([empty(2)]);
    waits_for(decide(&me(1), &some), "member 3 at host3:1");
    some.insert(id(3), Err("connection refused".to_owned()));
    waits_for(decide(&me(1), &some), "connection refused");
}

#[test]
fn a_server_that_is_alone_founds_at_once() {
    let mut alone = me(1);
    alone.listed.clear();
    let founders: BTreeMap<_, _> = [(id(1), info(1))].into();
    assert_eq!(decide(&alone, &Answers::new()), Step::Found(founders));
}

#[test]
fn a_founder_adopts_the_record_that_has_its_folder() {
    let step = decide(&me(2), &answers([founded(1)]));
    assert_eq!(step, Step::Adopt(founding()));
    let later = knowing(1, 9, &[(1, 1), (2, 2), (3, 3)], &[]);
    assert_eq!(
        decide(&me(3), &answers([later, empty(2)])),
        Step::Adopt(founding())
    );
}

#[test]
fn a_wiped_member_is_told_what_to_do_whoever_answers() {
    for number in [1, 2, 3] {
        let mut wiped = me(number);
        wiped.instance = 99;
        let others = (1..=3).filter(|other| *other != number).map(founded);
        let step = decide(&wiped, &answers(others));
        ends_with(step, ErrorKind::Conflict, &format!("raft remove {number}"));
    }
}

#[test]
fn who_is_not_listed_joins_where_there_is_a_place() {
    let mut joiner = me(4);
    waits_for(decide(&joiner, &answers([empty(1)])), "does not answer");
    waits_for(
        decide(&joiner, &answers([empty(1), empty(2), empty(3)])),
        "has a cluster yet",
    );
    waits_for(
        decide(&joiner, &answers([founded(1)])),
        "arustio admin raft add 4 host4:1",
    );
    // One member lags, another one knows of the new one.
    let old = knowing(1, 5, &[(1, 1), (2, 2), (3, 3)], &[]);
    let new = knowing(2, 6, &[(1, 1), (2, 2), (3, 3), (4, 0)], &[]);
    let step = decide(&joiner, &answers([old, new]));
    assert!(matches!(step, Step::Join(..)), "{step:?}");
    // Bound, and stopped before it noted so.
    let bound = knowing(2, 7, &[(1, 1), (4, 4)], &[]);
    let step = decide(&joiner, &answers([bound.clone()]));
    assert!(matches!(step, Step::Join(..)), "{step:?}");
    joiner.instance = 44;
    ends_with(
        decide(&joiner, &answers([bound])),
        ErrorKind::Conflict,
        "raft remove 4",
    );
}

#[test]
fn a_removed_number_never_comes_back() {
    let gone = knowing(1, 9, &[(1, 1), (2, 2)], &[3]);
    ends_with(
        decide(&me(3), &answers([gone])),
        ErrorKind::NotFound,
        "never comes back",
    );
}

#[test]
fn who_has_another_key_than_a_cluster_or_than_most_founders_ends() {
    let mut odd = me(2);
    odd.key = [9; 4];
    let step = decide(&odd, &answers([founded(1)]));
    ends_with(step, ErrorKind::Unauthenticated, "another cluster key");
    let step = decide(&odd, &answers([empty(1), empty(3)]));
    ends_with(step, ErrorKind::Unauthenticated, "another cluster key");
    // One of two is wrong, and nobody can tell which.
    waits_for(decide(&odd, &answers([empty(1)])), "another cluster key");
    let mut other = empty(2);
    other.key = vec![9; 4];
    waits_for(
        decide(&me(1), &answers([other, empty(3)])),
        "member 2 at host2:1 has another cluster key",
    );
}

#[test]
fn lists_folders_and_clusters_that_do_not_fit_together_are_told() {
    let mut other_list = empty(2);
    other_list.listed.remove(&id(3));
    waits_for(
        decide(&me(1), &answers([other_list, empty(3)])),
        "another list",
    );
    let wrong_number = [(id(2), Ok(empty(3)))].into();
    waits_for(decide(&me(1), &wrong_number), "answers as member 3");
    let mut copy = empty(2);
    copy.instance = 1;
    ends_with(
        decide(&me(1), &answers([copy])),
        ErrorKind::Conflict,
        "copy of this data folder",
    );
    let mut foreign = founded(2);
    foreign.founding.as_mut().unwrap().cluster = ClusterId::new(99);
    ends_with(
        decide(&me(3), &answers([founded(1), foreign])),
        ErrorKind::Conflict,
        "two different clusters",
    );
}
