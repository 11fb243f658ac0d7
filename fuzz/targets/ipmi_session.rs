//! Packets of an established session: those of a stranger are refused, those of the BMC may hold anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_drivers::ipmi::codec::{self, Packet, PayloadType, Response};
use bessemer_drivers::ipmi::crypto::{CipherSuite, SessionKeys};
use bessemer_drivers::ipmi::session::{self, Session};

const CONSOLE: u32 = 0xa4a3_a2a0;

fuzz_target!(|input: (bool, Vec<(bool, u32, u16, &[u8])>)| {
    let (new, packets) = input;
    let Some(suite) = CipherSuite::by_id(if new { 17 } else { 3 }) else { return };
    let keys = || SessionKeys::derive(suite.authentication, b"a session integrity key");
    let mut ours = Session::new(suite, keys(), CONSOLE, 0x0200_0200);
    for (sealed, sequence, flip, bytes) in packets {
        let mut datagram = bytes.to_vec();
        if sealed {
            datagram = session::seal(suite, &keys(), PayloadType::Ipmi, sequence, CONSOLE, bytes, &[9; 16]);
        }
        let intact = sealed && flip == 0;
        if sealed && flip != 0 {
            let at = usize::from(flip) % datagram.len();
            datagram[at] ^= 1 + (flip >> 8) as u8 % 255;
        }
        let Ok(Packet::Plus(plus)) = codec::parse(&datagram) else { continue };
        if let Ok(received) = ours.open(&plus) {
            // The RMCP header is not under the code; everything else is.
            assert!(intact || sealed && usize::from(flip) % datagram.len() < 4, "a packet without proof was taken");
            assert_eq!(received.payload, bytes);
            let _ = Response::decode(&received.payload);
        }
    }
});
