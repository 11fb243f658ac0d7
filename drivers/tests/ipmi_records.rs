//! Event log and sensor records: against the fixture BMC with its limits and faults, and hostile records.
#![allow(clippy::unwrap_used, missing_docs)]

mod ipmi_support;

use bessemer_drivers::ipmi::sdr::{SensorRecord, SensorStatus};
use bessemer_drivers::ipmi::sel::{SelEntry, SelEvent};
use bessemer_drivers::ipmi::{IpmiClient, IpmiPool};
use ipmi_support::{bmc, endpoint_at, quick};
use virtualbmc_fixtures::ipmi::{Fault, IpmiBmc, IpmiBmcConfig};

const STORAGE: u8 = 0x0a;
const GET_SDR: u8 = 0x23;
const CLEAR_SEL: u8 = 0x47;

async fn pair(config: IpmiBmcConfig) -> (IpmiBmc, IpmiClient) {
    let b = bmc(config).await;
    let client = IpmiPool::new(quick()).client(&endpoint_at(b.address().port()));
    (b, client)
}

fn event(sensor: u8) -> [u8; 16] {
    [0, 0, 2, 0x80, 0x1a, 0, 0, 0x20, 0, 4, 1, sensor, 0x81, 0x57, 0x5a, 0x50]
}

fn asked(b: &IpmiBmc, cmd: u8) -> usize {
    b.seen().iter().filter(|c| (c.netfn, c.cmd) == (STORAGE, cmd)).count()
}

#[tokio::test]
async fn the_event_log_is_read_in_order_and_cleared() {
    let (b, client) = pair(IpmiBmcConfig::default()).await;
    assert_eq!(client.sel_entries(100).await.unwrap(), []);
    for sensor in 1..=20 {
        b.add_event(event(sensor));
    }
    assert_eq!(client.sel_info().await.unwrap().entries, 20);
    let entries = client.sel_entries(100).await.unwrap();
    assert_eq!(entries.len(), 20);
    let expected = SelEvent::System {
        timestamp: 0x1a80,
        generator: 0x20,
        sensor_type: 1,
        sensor: 7,
        deasserted: true,
        event_type: 1,
        data: [0x57, 0x5a, 0x50],
    };
    assert_eq!(entries[6], SelEntry { id: 7, event: expected });
    assert_eq!(client.sel_entries(5).await.unwrap().len(), 5);
    client.sel_clear().await.unwrap();
    assert_eq!(client.sel_info().await.unwrap().entries, 0);
}

#[tokio::test]
async fn a_cancelled_reservation_is_renewed() {
    let (b, client) = pair(IpmiBmcConfig::default()).await;
    b.add_event(event(1));
    b.faults().once_for(STORAGE, CLEAR_SEL, Fault::Completion(0xc5));
    client.sel_clear().await.unwrap();
    b.faults().once_for(STORAGE, GET_SDR, Fault::Completion(0xc5));
    assert_eq!(client.sensors().await.unwrap().len(), 5);
}

#[tokio::test]
async fn sensor_records_are_read_in_pieces_that_the_bmc_can_give_and_kept() {
    for sdr_chunk in [0xfe, 16, 8, 5] {
        let (b, client) = pair(IpmiBmcConfig { sdr_chunk, ..IpmiBmcConfig::default() }).await;
        let sensors = client.sensors().await.unwrap();
        let values: Vec<_> = sensors.iter().map(|s| (s.record.name.as_str(), s.value.map(|v| (v * 1000.0).round() / 1000.0))).collect();
        let expected =
            [("CPU Temp", Some(42.0)), ("FAN1", Some(5300.0)), ("12V", Some(12.159)), ("Inlet Temp", Some(-7.5)), ("PS1 Status", None)];
        assert_eq!(values, expected);
        assert_eq!(sensors[4].states, Some(1));
        let reads = asked(&b, GET_SDR);
        client.sensors().await.unwrap();
        assert_eq!(asked(&b, GET_SDR), reads, "records are kept while the repository does not change");
    }
}

#[tokio::test]
async fn a_sensor_without_a_reading_does_not_hide_the_others() {
    let (b, client) = pair(IpmiBmcConfig::default()).await;
    b.set_reading(1, None);
    b.faults().once_for(4, 0x2d, Fault::Completion(0xcb));
    let sensors = client.sensors().await.unwrap();
    assert_eq!((sensors[0].value, sensors[0].status), (None, SensorStatus::Unavailable));
    assert_eq!(sensors.iter().filter(|s| s.status == SensorStatus::Ok).count(), 4);
}

#[tokio::test]
async fn an_empty_or_cut_repository_is_no_panic() {
    let (_b, client) = pair(IpmiBmcConfig { sensors: Vec::new(), ..IpmiBmcConfig::default() }).await;
    assert_eq!(client.sensors().await.unwrap(), []);
    let (b, client) = pair(IpmiBmcConfig::default()).await;
    b.faults().once_for(STORAGE, GET_SDR, Fault::CutReply);
    client.sensors().await.unwrap_err();
    b.faults().once_for(STORAGE, 0x20, Fault::CutReply);
    client.sensors().await.unwrap_err();
    b.faults().once_for(STORAGE, 0x40, Fault::CutReply);
    client.sel_info().await.unwrap_err();
}

proptest::proptest! {
    #[test]
    fn arbitrary_records_never_panic(r in proptest::collection::vec(proptest::num::u8::ANY, 0..80), kind in 0u8..4, raw: u8) {
        let mut r = r;
        if let Some(k) = r.get_mut(3) {
            *k = kind;
        }
        if let Some(s) = SensorRecord::decode(&r) {
            let _ = s.scale.and_then(|s| s.value(raw));
        }
        let _ = SelEntry::decode(&r);
    }
}
