//! A TFTP transfer under any acknowledgements and time-outs: it reads only what is in the file, and it ends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use bessemer_pxe::tftp::codec::RequestOptions;
use bessemer_pxe::tftp::transfer::{Limits, Step, Transfer};
use proptest::prelude::*;

const LIMITS: Limits = Limits { block: 1468, window: 64 };

/// What the client does next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Ack(u16),
    /// Acknowledges what was sent last.
    Right,
    Silence,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(prop_oneof![any::<u16>().prop_map(Event::Ack), Just(Event::Right), Just(Event::Silence)], 0..200)
}

fn options() -> impl Strategy<Value = RequestOptions> {
    (prop::option::of(8u16..=65464), prop::option::of(1u16..), prop::option::of(1u8..), any::<bool>()).prop_map(
        |(block, window, timeout_secs, size)| {
            let mut asked = RequestOptions::default();
            (asked.block, asked.window, asked.timeout_secs, asked.size) = (block, window, timeout_secs, size);
            asked
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_acknowledgements_makes_a_transfer_read_past_the_file(size in 0u64..1 << 26, asked in options(), events in events()) {
        let mut now = Instant::now();
        let mut transfer = Transfer::new(size, asked, LIMITS, now);
        let mut step = transfer.start(now);
        let mut last = 0u64;
        for event in events {
            match step {
                Step::SendBlocks { first, count } => {
                    prop_assert!(first > 0 && count > 0 && count <= LIMITS.window);
                    last = first + u64::from(count) - 1;
                    for block in first..=last {
                        let (offset, len) = transfer.span(block);
                        prop_assert!(offset + len as u64 <= size, "block {} of {} bytes", block, size);
                    }
                }
                Step::Done | Step::GiveUp => break,
                Step::SendOack | Step::Wait => {}
            }
            now += Duration::from_millis(1);
            step = match event {
                Event::Ack(number) => transfer.on_ack(number, now),
                Event::Right => transfer.on_ack(last as u16, now),
                Event::Silence => {
                    now = now.max(transfer.deadline());
                    transfer.on_timeout(now)
                }
            };
        }
    }

    #[test]
    fn a_client_that_confirms_everything_gets_everything(size in 0u64..1 << 22, asked in options()) {
        let mut now = Instant::now();
        let mut transfer = Transfer::new(size, asked, LIMITS, now);
        let mut step = transfer.start(now);
        let mut read = 0u64;
        let mut last = 0u64;
        for _ in 0..1_000_000 {
            match step {
                Step::SendBlocks { first, count } => {
                    prop_assert_eq!(first, last + 1);
                    last = first + u64::from(count) - 1;
                    read += (first..=last).map(|block| transfer.span(block).1 as u64).sum::<u64>();
                }
                Step::SendOack => {}
                Step::Done => break,
                other => prop_assert!(false, "{:?}", other),
            }
            now += Duration::from_millis(1);
            step = transfer.on_ack(last as u16, now);
        }
        prop_assert_eq!(read, size);
    }

    #[test]
    fn a_client_that_is_gone_is_given_up(size in 0u64..1 << 30, asked in options()) {
        let mut now = Instant::now();
        let mut transfer = Transfer::new(size, asked, LIMITS, now);
        let mut step = transfer.start(now);
        let mut times = 0;
        while step != Step::GiveUp {
            times += 1;
            prop_assert!(times < 100, "it goes on and on");
            now = now.max(transfer.deadline());
            step = transfer.on_timeout(now);
        }
    }
}
