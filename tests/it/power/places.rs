//! Who is at a port before it is cut, as switches of several kinds tell it or do not.

use super::simulated::Bench;
use super::{driver, mac, queue, switched, why};
use piseduce_coordinator::machine::event::Powered;
use piseduce_coordinator::power::{self, Power, PowerQueue};
use piseduce_tests::switch::{Addresses, Bulk};
use std::time::Duration;

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
