//! A log-in that is answered with any datagrams: it ends, without a session that nobody proved.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_drivers::ipmi::Privilege;
use bessemer_drivers::ipmi::codec::{self, PayloadType};
use bessemer_drivers::ipmi::crypto::CipherSuite;
use bessemer_drivers::ipmi::session::{Handshake, Login, Step};
use bessemer_model::secret::Secret;

const CONSOLE: u32 = 0xa4a3_a2a0;

fuzz_target!(|input: (u8, Vec<(bool, &[u8])>)| {
    let (suite, answers) = input;
    let Some(suite) = CipherSuite::by_id([3, 17, 0, 2, 8][usize::from(suite) % 5]) else { return };
    let login = Login {
        user: "admin".into(),
        password: Secret::new("password".into()),
        kg: None,
        privilege: Privilege::Administrator,
        name_only: true,
    };
    let Some(mut handshake) = Handshake::new(suite, &login, CONSOLE, [7; 16], 0) else { return };
    let mut stage = 0;
    let _ = handshake.packet();
    for (framed, bytes) in answers {
        // Framed: the header is right, so that the payload is reached.
        let datagram = if framed {
            let kind = [PayloadType::OpenResponse, PayloadType::Rakp2, PayloadType::Rakp4][stage];
            codec::plus_packet(kind, false, false, 0, 0, bytes)
        } else {
            bytes.to_vec()
        };
        match handshake.receive(&datagram) {
            Step::Ignored => {}
            Step::Next => {
                stage = (stage + 1).min(2);
                let _ = handshake.packet();
            }
            // Only suite 0 has no proof.
            Step::Established(_) => {
                assert_eq!(suite.id, 0, "a session without proof");
                return;
            }
            Step::Refused(..) => return,
        }
    }
});
