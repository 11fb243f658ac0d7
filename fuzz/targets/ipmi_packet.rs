//! RMCP and RMCP+ datagrams before any check of who sent them, the messages inside, and records of the BMC.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_drivers::ipmi::codec::{self, OpenResponse, Packet, Rakp2, Response};
use bessemer_drivers::ipmi::sdr::SensorRecord;
use bessemer_drivers::ipmi::sel::SelEntry;

fuzz_target!(|data: &[u8]| {
    let inner = match codec::parse(data) {
        Ok(Packet::Plus(plus)) => {
            let _ = plus.console_session();
            plus.payload
        }
        Ok(Packet::Sessionless(message)) => message,
        _ => data,
    };
    let _ = (Response::decode(inner), codec::login_status(inner), OpenResponse::decode(inner), Rakp2::decode(inner));
    let _ = SelEntry::decode(inner);
    if let Some(record) = SensorRecord::decode(inner)
        && let Some(scale) = record.scale
    {
        for raw in [0, 1, 127, 128, 255] {
            let _ = scale.value(raw);
        }
    }
});
