//! TFTP requests, and the transfer that one starts, driven by any acknowledgements and time-outs.
#![no_main]

use libfuzzer_sys::fuzz_target;

use std::time::Instant;

use bessemer_pxe::tftp::codec::{self, Incoming};
use bessemer_pxe::tftp::transfer::{Limits, Step, Transfer};

fuzz_target!(|input: (&[u8], u32, Vec<Option<u16>>)| {
    let (packet, size, events) = input;
    let request = match codec::decode(packet) {
        Ok(Incoming::Read(request)) => request,
        _ => return,
    };
    let size = u64::from(size);
    let mut now = Instant::now();
    let mut transfer = Transfer::new(size, request.options, Limits { block: 1468, window: 64 }, now);
    let _ = transfer.granted().encode();
    let mut step = transfer.start(now);
    for event in events {
        match step {
            Step::SendBlocks { first, count } => {
                assert!(first > 0 && count > 0);
                for block in first..first + u64::from(count) {
                    let (offset, len) = transfer.span(block);
                    assert!(len <= usize::from(transfer.block_len()));
                    assert!(offset + len as u64 <= size, "block {block} is read past the end");
                    let _ = codec::data_header(block as u16);
                }
            }
            Step::Done | Step::GiveUp => return,
            Step::SendOack | Step::Wait => {}
        }
        step = match event {
            Some(ack) => transfer.on_ack(ack, now),
            None => {
                now = now.max(transfer.deadline());
                transfer.on_timeout(now)
            }
        };
    }
});
