//! Whom a transport reaches, and where.

use arustio_meta::consensus::MemberInfo;
use arustio_types::{ClusterId, Incarnation};

use super::*;

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn transport() -> GrpcTransport {
    let fallback = |number: u64| (id(number), format!("listed{number}:1"));
    GrpcTransport::new(TransportParts {
        identity: MemberIdentity {
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            member: id(1),
        },
        address: "host1:1".to_owned(),
        fallbacks: [fallback(2), fallback(3)].into(),
        rate: ByteSize::mib(1),
        seed: 1,
        runtime: Handle::current(),
    })
}

fn group(members: &[(u64, &str)]) -> Membership {
    let member = |(number, address): &(u64, &str)| {
        let address = (*address).to_owned();
        let instance = 1;
        (id(*number), MemberInfo { address, instance })
    };
    Membership::founding(members.iter().map(member))
}

fn addresses(transport: &GrpcTransport, number: u64) -> Vec<String> {
    transport.0.links.lock().addresses(id(number))
}

#[tokio::test]
async fn the_groups_own_address_comes_first_and_the_list_after_it() {
    let transport = transport();
    assert_eq!(addresses(&transport, 2), ["listed2:1"]);
    transport.members(&group(&[(1, "host1:1"), (2, "host2:1"), (3, "listed3:1")]));
    assert_eq!(addresses(&transport, 2), ["host2:1", "listed2:1"]);
    assert_eq!(addresses(&transport, 3), ["listed3:1"]);
    transport.hint(id(2), "moved2:1");
    assert_eq!(addresses(&transport, 2), ["host2:1", "moved2:1"]);
    assert!(transport.close(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_peers_say_of_themselves_is_checked_and_bounded() {
    let transport = transport();
    transport.hint(id(9), "http://nonsense");
    assert!(addresses(&transport, 9).is_empty());
    for number in 10..1000 {
        transport.hint(id(number), "host:1");
    }
    assert_eq!(transport.0.links.lock().hints.len(), MOST_HINTS);
}

#[tokio::test]
async fn nobody_is_spoken_to_who_was_removed_or_whom_nobody_knows() {
    let transport = transport();
    let mut members = group(&[(1, "host1:1"), (2, "host2:1")]);
    members.removed.insert(id(3));
    transport.members(&members);
    let linked = |number| Inner::link(&transport.0, id(number)).is_some();
    assert!(linked(2) && !linked(3) && !linked(4) && !linked(1));
    let link = Inner::link(&transport.0, id(2)).unwrap();
    members.members.remove(&id(2));
    members.removed.insert(id(2));
    transport.members(&members);
    assert!(link.stop.is_cancelled());
    assert!(transport.close(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn pauses_grow_up_to_a_bound() {
    let transport = transport();
    for failures in [0, 1, 5, 100] {
        let pause = transport.0.pause(failures);
        assert!(pause >= PAUSES.0 / 2 && pause <= PAUSES.1, "{pause:?}");
    }
}
