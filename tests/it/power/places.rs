//! Who is at a port before it is cut, as switches of several kinds tell it or do not.

use super::simulated::Bench;
use super::{driver, mac, queue, switched, why};
use piseduce_coordinator::domain::driver::Driver;
use piseduce_coordinator::machine::event::Powered;
use piseduce_coordinator::power::{self, Job, Port, Power, PowerQueue};
use piseduce_tests::switch::{Addresses, Bulk};
use std::time::Duration;
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(30);

/// A bench where the boards of ports 7 and 8 are swapped, and have power.
async fn swapped(settings: &str, version: &str) -> (Bench, PowerQueue) {
    let bench = Bench::new();
    bench.switch.plug(7, &mac(8));
    bench.switch.plug(8, &mac(7));
    bench.switch.detect_for(Duration::ZERO);
    [7, 8, 9].into_iter().for_each(|port| bench.switch.set(port, true));
    let queue = queue(&driver(&(bench.entry(version) + settings)), LONG);
    (bench, queue)
}

async fn is_refused(bench: &Bench, queue: &mut PowerQueue, shape: &str) {
    let sets = bench.switch.sets().len();
    let failed = why(&switched(queue, 7, Power::Off).await);
    assert!(failed.starts_with("wrong_port") && failed.contains("at port 8, not at 7"), "{shape}: {failed}");
    assert_eq!(bench.switch.sets().len(), sets, "{shape}: nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_port_is_found_in_every_shape_of_the_table() {
    for addresses in [Addresses::ByVlan, Addresses::ByAddress, Addresses::ByRow] {
        for bulk in [Bulk::Answered, Bulk::Refused] {
            let (bench, mut queue) = swapped("", "2c").await;
            bench.switch.fault(|faults| (faults.addresses, faults.bulk) = (addresses, bulk));
            is_refused(&bench, &mut queue, &format!("{addresses:?}, {bulk:?}")).await;
            assert_eq!(switched(&mut queue, 9, Power::Off).await, Powered::Off, "{addresses:?}");
            assert_eq!(queue.take_remark("9"), None, "{addresses:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_without_getbulk_is_read_row_by_row() {
    let (bench, mut queue) = swapped("", "2c").await;
    bench.switch.fault(|faults| (faults.addresses, faults.bulk) = (Addresses::ByRow, Bulk::Dropped));
    is_refused(&bench, &mut queue, "GETBULK dropped").await;
    let switch = power::open(&driver(&bench.entry("2c")));
    let table = switch.stations().await.unwrap().unwrap();
    assert_eq!((table.stations.len(), table.gap), (4, None));
    assert_eq!(switch.ports().await.unwrap().unwrap().len(), 48);
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_addresses_are_asked_for_among_hundreds_in_few_requests() {
    for addresses in [Addresses::ByVlan, Addresses::ByAddress] {
        let (bench, mut queue) = swapped("", "2c").await;
        bench.switch.fault(|faults| (faults.addresses, faults.strangers) = (addresses, 400));
        let before = bench.switch.requests();
        is_refused(&bench, &mut queue, "hundreds").await;
        let requests = bench.switch.requests() - before;
        assert!(requests <= 5, "{addresses:?}: {requests} requests for 48 nodes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_a_vlan_are_asked_for_in_its_context() {
    for version in ["1", "2c", "3"] {
        let (bench, mut queue) = swapped("vlans = [10]\n", version).await;
        bench.switch.fault(|faults| faults.addresses = Addresses::InVlan(10));
        is_refused(&bench, &mut queue, version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vlans_and_the_count_of_bridge_ports_are_detected() {
    for version in ["1", "2c", "3"] {
        let (bench, _) = swapped("", version).await;
        let Driver::Snmp(settings) = driver(&bench.entry(version)) else { panic!("it is one") };
        let found = power::detect(&settings).await.unwrap();
        assert_eq!((found.vlans, found.bridge_offsets), (vec![], [(1, 0)].into()), "{version}");
        assert!(found.offset_evidence.contains("ifName"), "{}", found.offset_evidence);
        bench.switch.fault(|faults| faults.addresses = Addresses::InVlan(10));
        assert_eq!(power::detect(&settings).await.unwrap().vlans, [10], "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outlets_of_another_group_are_found_by_its_offset() {
    let stack = "group = 9\nbridge_offsets = [{ group = 1, offset = 0 }]\n";
    let (bench, mut queue) = swapped(stack, "2c").await;
    let place = |number: u32| Port { port: format!("1/{number}"), node: format!("pi-{number}") };
    queue.set_places((1..=48).map(|number| (mac(number), place(number))).collect());
    let cut = |queue: &mut PowerQueue, number: u32| {
        let (send, mut ended) = mpsc::unbounded_channel();
        queue.start(Job { port: place(number), power: Power::Off, gap: Duration::ZERO }, move |powered| {
            send.send(powered).unwrap()
        });
        async move { ended.recv().await.unwrap() }
    };
    let failed = why(&cut(&mut queue, 7).await);
    assert!(failed.contains("at port 1/8, not at 1/7"), "{failed}");
    assert_eq!(cut(&mut queue, 9).await, Powered::Off);
    assert_eq!(queue.take_remark("1/9"), None);
    assert!(!bench.switch.is_on(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_cannot_tell_any_more_is_not_believed() {
    for (addresses, words) in
        [(Addresses::Hidden, "shows no address at all"), (Addresses::Silent, "nothing from")]
    {
        let (bench, mut queue) = swapped("", "2c").await;
        assert_eq!(switched(&mut queue, 9, Power::Off).await, Powered::Off);
        bench.switch.fault(|faults| faults.addresses = addresses);
        // The register changed, so that it is asked anew.
        queue.set_places([(mac(7), super::port(7)), (mac(12), super::port(12))].into());
        let sets = bench.switch.sets().len();
        let failed = why(&switched(&mut queue, 7, Power::Off).await);
        assert!(failed.starts_with("place_unknown") && failed.contains(words), "{addresses:?}: {failed}");
        assert_eq!(bench.switch.sets().len(), sets, "nothing was cut");
        assert_eq!(
            switched(&mut queue, 12, Power::Off).await,
            Powered::Off,
            "nobody is cut off without power"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_never_told_is_obeyed_and_that_is_said() {
    for (addresses, words) in
        [(Addresses::Hidden, "shows no address at all"), (Addresses::InVlan(10), "shows no address at all")]
    {
        let (bench, mut queue) = swapped("", "2c").await;
        bench.switch.fault(|faults| faults.addresses = addresses);
        assert_eq!(switched(&mut queue, 7, Power::Off).await, Powered::Off);
        let remark = queue.take_remark("7").unwrap();
        assert!(remark.starts_with("cut unproven: ") && remark.contains(words), "{remark}");
        assert_eq!(queue.take_remark("7"), None, "it is said once");
    }
    let (bench, mut queue) = swapped("", "2c").await;
    bench.switch.hide(9);
    assert_eq!(switched(&mut queue, 9, Power::Off).await, Powered::Off, "a node that hangs can be cut");
    assert!(queue.take_remark("9").unwrap().contains("does not show dc:a6:32:00:00:09 of pi-9"));
}
