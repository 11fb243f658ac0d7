//! One TFTP transfer as a state machine without I/O: what to send next, when to send it again, when to give up.
//!
//! Block numbers are counted in 64 bits inside and travel in 16: files above 65535 blocks roll over to 0.

use std::time::{Duration, Instant};

use super::codec::{DEFAULT_BLOCK, Granted, RequestOptions};

/// Times that one block is sent again before the client counts as gone.
const MAX_RETRIES: u32 = 7;
/// Longest wait for an answer.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Wait for the first answer, before the client's speed is known.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Shortest wait: firmware pauses for this long now and then (screen output, flash).
const MIN_WAIT: Duration = Duration::from_millis(200);
/// Most bytes in flight, whatever the window.
const MAX_FLIGHT: u32 = 1 << 19;

/// What the server grants at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Block size in bytes.
    pub block: u16,
    /// Window in blocks.
    pub window: u16,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the option acknowledgement.
    SendOack,
    /// Send these blocks, counted from 1.
    SendBlocks {
        /// First block.
        first: u64,
        /// How many.
        count: u16,
    },
    /// Nothing; wait.
    Wait,
    /// The client has everything.
    Done,
    /// The client no longer answers.
    GiveUp,
}

/// State of a transfer of known size.
#[derive(Debug, Clone)]
pub struct Transfer {
    granted: Granted,
    block: u16,
    window: u16,
    total: u64,
    size: u64,
    /// Last block that the client has; 0 before the first.
    acked: u64,
    /// Last block that was sent in this round.
    sent: u64,
    awaiting_oack: bool,
    retries: u32,
    /// A repeated ACK shortened the wait for this block already.
    hurried: bool,
    round_trip: Option<Duration>,
    sent_at: Instant,
    deadline: Instant,
    fixed_wait: Option<Duration>,
    resent: bool,
}

impl Transfer {
    /// A transfer of `size` bytes to a client with these options. Send what [`Transfer::start`] says.
    pub fn new(size: u64, asked: RequestOptions, limits: Limits, now: Instant) -> Self {
        let block = asked.block.map(|wanted| wanted.min(limits.block).max(8));
        let block_len = block.unwrap_or(DEFAULT_BLOCK);
        let in_flight = u16::try_from(MAX_FLIGHT / u32::from(block_len)).unwrap_or(u16::MAX);
        let window = asked.window.map(|wanted| wanted.min(limits.window).min(in_flight).max(1));
        Self {
            granted: Granted { block, size: asked.size.then_some(size), timeout_secs: asked.timeout_secs, window },
            block: block_len,
            window: window.unwrap_or(1),
            total: size / u64::from(block_len) + 1,
            size,
            acked: 0,
            sent: 0,
            awaiting_oack: false,
            retries: 0,
            hurried: false,
            round_trip: None,
            sent_at: now,
            deadline: now,
            // RFC 2349 gives the time-out to the server's choice of the client; ours may not outlive MAX_WAIT by much.
            fixed_wait: asked.timeout_secs.map(|secs| Duration::from_secs(u64::from(secs)).min(Duration::from_secs(30))),
            resent: false,
        }
    }

    /// What was granted.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// Block size in bytes.
    pub fn block_len(&self) -> u16 {
        self.block
    }

    /// Offset and length in the file of a block counted from 1; the last one may be empty.
    pub fn span(&self, block: u64) -> (u64, usize) {
        let offset = (block.saturating_sub(1)).saturating_mul(u64::from(self.block));
        let left = self.size.saturating_sub(offset).min(u64::from(self.block));
        (offset, usize::try_from(left).unwrap_or(0))
    }

    /// When to call [`Transfer::on_timeout`] unless a packet comes before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes that the client has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.acked.saturating_mul(u64::from(self.block)).min(self.size)
    }

    /// The first thing to send.
    pub fn start(&mut self, now: Instant) -> Step {
        if self.granted.is_empty() {
            self.send_window(now)
        } else {
            self.awaiting_oack = true;
            self.arm(now);
            Step::SendOack
        }
    }

    /// The client acknowledged a block number.
    pub fn on_ack(&mut self, number: u16, now: Instant) -> Step {
        if self.awaiting_oack {
            if number != 0 {
                return Step::Wait;
            }
            self.awaiting_oack = false;
            self.progressed(now);
            return self.send_window(now);
        }
        // How far the number lies ahead of what is confirmed, in 16-bit arithmetic: the roll-over is nothing special.
        let ahead = u64::from(number.wrapping_sub(self.acked as u16));
        if ahead == 0 {
            // Confirmed already: the client lost the first block of the window, or the network doubled a packet. Sending
            // at once would double every packet from here on (the sorcerer's apprentice), so only the wait is shortened,
            // once per block.
            if self.window > 1 && !self.hurried && self.acked < self.sent {
                self.hurried = true;
                let soon = now + (self.round_trip.unwrap_or(MIN_WAIT) * 2).clamp(Duration::from_millis(2), MIN_WAIT);
                self.deadline = self.deadline.min(soon);
            }
            return Step::Wait;
        }
        if self.acked + ahead > self.sent {
            return Step::Wait;
        }
        self.acked += ahead;
        self.progressed(now);
        if self.acked >= self.total {
            return Step::Done;
        }
        self.send_window(now)
    }

    /// The deadline passed.
    pub fn on_timeout(&mut self, now: Instant) -> Step {
        if now < self.deadline {
            return Step::Wait;
        }
        if self.retries >= MAX_RETRIES {
            return Step::GiveUp;
        }
        self.retries += 1;
        self.resent = true;
        if self.awaiting_oack {
            self.arm(now);
            return Step::SendOack;
        }
        self.send_window(now)
    }

    fn progressed(&mut self, now: Instant) {
        // Karn's rule: an answer to something sent twice says nothing about the time it took.
        if !self.resent {
            let sample = now.saturating_duration_since(self.sent_at);
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        self.resent = false;
        self.hurried = false;
        self.retries = 0;
    }

    fn send_window(&mut self, now: Instant) -> Step {
        let first = self.acked + 1;
        let count = u64::from(self.window).min(self.total - self.acked);
        self.sent = self.acked + count;
        self.arm(now);
        Step::SendBlocks { first, count: u16::try_from(count).expect("at most the window, which is 16 bits") }
    }

    fn arm(&mut self, now: Instant) {
        let base =
            self.fixed_wait.unwrap_or_else(|| self.round_trip.map_or(FIRST_WAIT, |rtt| (rtt * 8).clamp(MIN_WAIT, Duration::from_secs(1))));
        // A client that chose its time-out gets it; else each wait is twice the one before.
        let wait = match self.fixed_wait {
            Some(wait) => wait,
            None => (base * 2u32.saturating_pow(self.retries)).min(MAX_WAIT),
        };
        self.sent_at = now;
        self.deadline = now + wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { block: 1468, window: 64 };

    fn transfer(size: u64, block: Option<u16>, window: Option<u16>) -> (Transfer, Instant) {
        let now = Instant::now();
        let asked = RequestOptions { block, window, ..RequestOptions::default() };
        (Transfer::new(size, asked, LIMITS, now), now)
    }

    #[test]
    fn a_file_of_whole_blocks_ends_with_an_empty_block() {
        let (mut transfer, now) = transfer(1024, None, None);
        assert_eq!(transfer.start(now), Step::SendBlocks { first: 1, count: 1 });
        assert_eq!(transfer.on_ack(1, now), Step::SendBlocks { first: 2, count: 1 });
        assert_eq!(transfer.on_ack(2, now), Step::SendBlocks { first: 3, count: 1 });
        assert_eq!(transfer.span(3), (1024, 0));
        assert_eq!(transfer.on_ack(3, now), Step::Done);
    }

    #[test]
    fn an_acknowledged_window_slides_and_a_partial_one_goes_on_behind_the_gap() {
        let (mut transfer, now) = transfer(100_000, Some(1000), Some(16));
        assert_eq!(transfer.start(now), Step::SendOack);
        assert_eq!(transfer.on_ack(0, now), Step::SendBlocks { first: 1, count: 16 });
        assert_eq!(transfer.on_ack(16, now), Step::SendBlocks { first: 17, count: 16 });
        assert_eq!(transfer.on_ack(20, now), Step::SendBlocks { first: 21, count: 16 });
    }

    #[test]
    fn repeated_and_impossible_acks_send_nothing() {
        let (mut transfer, now) = transfer(100_000, Some(1000), Some(4));
        transfer.start(now);
        assert_eq!(transfer.on_ack(7, now), Step::Wait, "the OACK is answered by 0");
        transfer.on_ack(0, now);
        for number in [0, 5, 65535] {
            assert_eq!(transfer.on_ack(number, now), Step::Wait, "{number}");
        }
        assert_eq!(transfer.on_ack(4, now), Step::SendBlocks { first: 5, count: 4 });
    }

    #[test]
    fn a_repeated_ack_hurries_the_retransmission_once() {
        let (mut transfer, now) = transfer(100_000, Some(1000), Some(4));
        transfer.start(now);
        transfer.on_ack(0, now + Duration::from_millis(1));
        let before = transfer.deadline();
        transfer.on_ack(0, now + Duration::from_millis(2));
        let hurried = transfer.deadline();
        assert!(hurried < before);
        assert_eq!(transfer.on_timeout(hurried), Step::SendBlocks { first: 1, count: 4 });
        let after = transfer.deadline();
        transfer.on_ack(0, hurried);
        assert_eq!(transfer.deadline(), after);
    }

    #[test]
    fn block_numbers_roll_over_to_zero() {
        let (mut transfer, now) = transfer(70_000 * 8, Some(8), Some(1));
        transfer.start(now);
        let mut number = 0u16;
        let mut step = transfer.on_ack(number, now);
        let mut blocks = 0u64;
        while let Step::SendBlocks { first, count } = step {
            blocks += 1;
            assert_eq!((first, count), (blocks, 1));
            number = number.wrapping_add(1);
            step = transfer.on_ack(number, now);
        }
        assert_eq!((step, blocks), (Step::Done, 70_001));
    }

    #[test]
    fn a_silent_client_is_given_up_after_a_bounded_time() {
        let (mut transfer, start) = transfer(1024, None, None);
        let mut step = transfer.start(start);
        let mut sends = 0;
        let mut now = start;
        while step != Step::GiveUp {
            sends += 1;
            now = transfer.deadline();
            step = transfer.on_timeout(now);
        }
        assert_eq!(sends, 1 + MAX_RETRIES);
        assert!(now - start < Duration::from_secs(60));
    }

    #[test]
    fn window_and_block_are_granted_within_bounds() {
        let (transfer, _) = transfer(1, Some(65464), Some(65535));
        assert_eq!(transfer.granted().block, Some(1468));
        assert_eq!(transfer.granted().window, Some(64));
        let asked = RequestOptions { block: Some(65464), window: Some(65535), ..RequestOptions::default() };
        let wide = Limits { block: 65464, window: 1000 };
        let transfer = Transfer::new(1, asked, wide, Instant::now());
        assert_eq!(transfer.granted().window, Some(8));
    }
}
