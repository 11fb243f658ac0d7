//! Relay information so long that an answer with it would not fit.
#![allow(clippy::unwrap_used, reason = "tests")]

use bessemer_pxe::MacAddr;
use bessemer_pxe::dhcp::codec::{self, MessageType, Packet, code};

fn answer(relay_info: usize, limit: usize) -> (usize, Packet) {
    let mut asked = Packet::request(1, MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]));
    asked.options.set(code::RELAY_INFO, &vec![7; relay_info]);
    let mut reply = asked.reply(MessageType::Offer);
    reply.options.set(code::SERVER_ID, &[172, 30, 0, 1]);
    let bytes = reply.encode(limit);
    (bytes.len(), codec::decode(&bytes).unwrap())
}

#[test]
fn relay_information_that_does_not_fit_is_left_out_and_the_answer_stays_an_answer() {
    for relay_info in [0, 1, 40, 200, 240, 255, 256, 600, 5000] {
        for limit in [0, 548, 576, 1472] {
            let (len, reply) = answer(relay_info, limit);
            assert!(len <= limit.max(548), "{len} bytes for {relay_info} in {limit}");
            assert_eq!(reply.message_type(), Some(MessageType::Offer), "{relay_info} in {limit}");
            assert!(reply.server_id().is_some());
            let returned = reply.options.get(code::RELAY_INFO).map(<[u8]>::len);
            assert!(returned.is_none() || returned == Some(relay_info), "unchanged or not at all");
        }
    }
    assert!(answer(200, 548).1.options.get(code::RELAY_INFO).is_some(), "what fits is returned");
}
