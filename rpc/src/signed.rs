//! Calls that prove that they come from a daemon that knows the shared key, and that were meant for one process and one time.
//!
//! A message is one JSON text, and what goes with it is the HMAC-SHA-256 (RFC 2104) of that text after a fixed line that holds method and
//! path. The text names sender, receiver, the receiver's epoch, the time and a nonce. A receiver takes a message only once: it refuses other
//! receivers' messages, those to its former self (the epoch grows with every start), old ones, and the nonces that it has seen while
//! their time is not over. Answers are signed too, over the nonce of their request, so that nobody can answer in another's place.
//!
//! The key proves who speaks; against listeners there is TLS.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bessemer_model::{clock::Timestamp, secret::Secret};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::call::Call;

/// Where calls are sent: `POST` to this path.
pub const PATH: &str = "/rpc/v1";
/// The header that holds the signature of a request or an answer, in hexadecimal digits.
pub const SIGNATURE: &str = "x-bessemer-signature";
/// How far the clocks of two daemons may be apart, and how long a message is good.
pub const WINDOW: Duration = Duration::from_secs(60);
/// A key is never shorter, in bytes.
pub const LEAST_KEY: usize = 32;

/// The key that all daemons on a database share.
#[derive(Clone)]
pub struct Key(Secret<Vec<u8>>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(bessemer_model::secret::MASK)
    }
}

/// The key is too short to keep anybody out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is shorter than {LEAST_KEY} characters; make one with: openssl rand -hex 32")]
pub struct ShortKey;

impl Key {
    /// A key from the text of an option.
    ///
    /// # Errors
    /// [`ShortKey`].
    pub fn new(text: &Secret<String>) -> Result<Self, ShortKey> {
        let bytes = text.reveal().trim().as_bytes();
        if bytes.len() < LEAST_KEY { Err(ShortKey) } else { Ok(Self(Secret::new(bytes.to_vec()))) }
    }

    fn mac(&self, before: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length; `None` never happens.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.reveal()).ok()?;
        mac.update(before.as_bytes());
        mac.update(b"\n");
        mac.update(body);
        Some(mac)
    }

    fn sign(&self, before: &str, body: &[u8]) -> String {
        self.mac(before, body).map(|m| hex::encode(m.finalize().into_bytes())).unwrap_or_default()
    }

    /// In constant time.
    fn verifies(&self, before: &str, body: &[u8], signature: &str) -> bool {
        let Ok(given) = hex::decode(signature) else { return false };
        self.mac(before, body).is_some_and(|m| m.verify_slice(&given).is_ok())
    }
}

/// What stands before a request's text in what is signed.
fn request_line() -> String {
    format!("bessemer-rpc request POST {PATH}")
}

fn answer_line(nonce: Uuid) -> String {
    format!("bessemer-rpc answer {nonce}")
}

/// A call on its way. No `Debug`, as for [`Call`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Host name of the conductor that asks.
    pub from: String,
    /// Host name of the conductor that is to do it.
    pub to: String,
    /// The epoch of that conductor, as the sender read it.
    pub epoch: i64,
    /// When it was sent.
    pub at: Timestamp,
    /// Another one for every message.
    pub nonce: Uuid,
    /// The call.
    pub call: Call,
}

impl Message {
    /// Text and signature.
    ///
    /// # Errors
    /// When the call cannot be written as JSON.
    pub fn sealed(&self, key: &Key) -> Result<(Vec<u8>, String), serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let signature = key.sign(&request_line(), &body);
        Ok((body, signature))
    }
}

/// The signature of the answer `body` to the request with that nonce.
#[must_use]
pub fn sign_answer(key: &Key, nonce: Uuid, body: &[u8]) -> String {
    key.sign(&answer_line(nonce), body)
}

/// Whether an answer is one to the request with that nonce, by somebody who knows the key.
#[must_use]
pub fn answer_is_genuine(key: &Key, nonce: Uuid, body: &[u8], signature: &str) -> bool {
    key.verifies(&answer_line(nonce), body, signature)
}

/// Why a message is not taken. No text holds anything of the message but names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no signature, or it was made with another key or for another text.
    #[error("the signature is missing or wrong: is [rpc] shared_key the same on both daemons?")]
    Signature,
    /// Signed well, and not understood.
    #[error("the call is not understood: are the daemons of the same release? ({0})")]
    Unknown(String),
    /// For another conductor.
    #[error("the call is for conductor '{0}'")]
    Receiver(String),
    /// For a former process of this conductor.
    #[error("the call is for epoch {asked} of this conductor, which is over")]
    Epoch {
        /// The one that the message names.
        asked: i64,
    },
    /// Too old, or the clocks differ.
    #[error("the call was sent at another time by {seconds} s: are the clocks of both hosts right?")]
    Time {
        /// How far, in whole seconds.
        seconds: u64,
    },
    /// Seen before.
    #[error("the call was sent before")]
    Replayed,
    /// More messages at once than can be remembered.
    #[error("too many calls at a time")]
    Flooded,
}

/// So many nonces are remembered; far more than calls in two minutes, as each of them asks a controller.
const MOST: usize = 200_000;

#[derive(Default)]
struct Seen {
    order: VecDeque<(Timestamp, Uuid)>,
    nonces: HashSet<Uuid>,
}

/// Takes each message once.
pub struct Receiver {
    key: Key,
    host: String,
    seen: Mutex<Seen>,
}

impl Receiver {
    /// For the conductor `host`.
    #[must_use]
    pub fn new(key: Key, host: impl Into<String>) -> Self {
        Self { key, host: host.into(), seen: Mutex::default() }
    }

    /// The message in `body`, which is taken as of now. `epoch` is the receiver's present one.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(&self, body: &[u8], signature: &str, epoch: i64, now: Timestamp) -> Result<Message, Refused> {
        if !self.key.verifies(&request_line(), body, signature) {
            return Err(Refused::Signature);
        }
        let m: Message = serde_json::from_slice(body).map_err(|e| Refused::Unknown(format!("line {}, column {}", e.line(), e.column())))?;
        if m.to != self.host {
            return Err(Refused::Receiver(m.to));
        }
        if m.epoch != epoch {
            return Err(Refused::Epoch { asked: m.epoch });
        }
        let apart = now.since(m.at).max(m.at.since(now));
        if apart > WINDOW {
            return Err(Refused::Time { seconds: apart.as_secs() });
        }
        self.remember(m.nonce, now)?;
        Ok(m)
    }

    /// The signature of an answer.
    #[must_use]
    pub fn sign_answer(&self, nonce: Uuid, body: &[u8]) -> String {
        sign_answer(&self.key, nonce, body)
    }

    fn remember(&self, nonce: Uuid, now: Timestamp) -> Result<(), Refused> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A message may come from a clock that is ahead: its time is over two windows after it came at the latest.
        while let Some((at, old)) = seen.order.front().copied()
            && now.since(at) > 2 * WINDOW
        {
            seen.order.pop_front();
            seen.nonces.remove(&old);
        }
        if seen.nonces.len() >= MOST {
            return Err(Refused::Flooded);
        }
        if !seen.nonces.insert(nonce) {
            return Err(Refused::Replayed);
        }
        seen.order.push_back((now, nonce));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bessemer_model::ids::NodeId;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

    fn key(c: char) -> Key {
        Key::new(&Secret::new(String::from(c).repeat(LEAST_KEY))).unwrap()
    }

    fn message() -> Message {
        let call = Call::BootDevice { node: NodeId::random() };
        Message { from: "a".into(), to: "b".into(), epoch: 7, at: NOW, nonce: Uuid::new_v4(), call }
    }

    fn take(r: &Receiver, m: &Message, signed_by: &Key, now: Timestamp) -> Result<Message, Refused> {
        let (body, signature) = m.sealed(signed_by).unwrap();
        r.take(&body, &signature, 7, now)
    }

    #[test]
    fn a_message_is_taken_once_and_a_replay_is_refused() {
        let (r, m) = (Receiver::new(key('k'), "b"), message());
        assert!(take(&r, &m, &key('k'), NOW).unwrap() == m);
        assert_eq!(take(&r, &m, &key('k'), NOW).err(), Some(Refused::Replayed));
        // For as long as its time would let it pass, and after that the time refuses it.
        assert_eq!(take(&r, &m, &key('k'), NOW.after(WINDOW)).err(), Some(Refused::Replayed));
        let later = take(&r, &m, &key('k'), NOW.after(3 * WINDOW)).err();
        assert_eq!(later, Some(Refused::Time { seconds: 180 }));
    }

    #[test]
    fn a_message_of_a_clock_ahead_cannot_be_replayed_either() {
        let r = Receiver::new(key('k'), "b");
        let m = Message { at: NOW.after(WINDOW), ..message() };
        take(&r, &m, &key('k'), NOW).ok().unwrap();
        for seconds in [1, 59, 61, 119, 120] {
            let again = take(&r, &m, &key('k'), NOW.after(Duration::from_secs(seconds))).err();
            assert_eq!(again, Some(Refused::Replayed), "{seconds}");
        }
        assert!(take(&r, &m, &key('k'), NOW.after(Duration::from_secs(121))).is_err());
    }

    #[test]
    fn what_is_not_meant_for_this_process_and_time_is_refused() {
        let r = Receiver::new(key('k'), "b");
        let refused = |m: Message| take(&r, &m, &key('k'), NOW).err().unwrap();
        assert_eq!(refused(Message { to: "c".into(), ..message() }), Refused::Receiver("c".into()));
        assert_eq!(refused(Message { epoch: 6, ..message() }), Refused::Epoch { asked: 6 });
        let old = Timestamp(NOW.0 - 61_000_000);
        assert_eq!(refused(Message { at: old, ..message() }), Refused::Time { seconds: 61 });
        assert_eq!(refused(Message { at: NOW.after(Duration::from_secs(61)), ..message() }), Refused::Time { seconds: 61 });
        assert_eq!(take(&r, &message(), &key('x'), NOW).err(), Some(Refused::Signature));
    }

    #[test]
    fn a_changed_text_or_signature_is_refused_before_it_is_read() {
        let r = Receiver::new(key('k'), "b");
        let (mut body, signature) = message().sealed(&key('k')).unwrap();
        for bad in ["", "zz", &signature[..62], &signature.replace(|_: char| true, "0")] {
            assert_eq!(r.take(&body, bad, 7, NOW).err(), Some(Refused::Signature), "{bad}");
        }
        body.push(b' ');
        assert_eq!(r.take(&body, &signature, 7, NOW).err(), Some(Refused::Signature));
        // The signature of an answer is none of a request.
        let nonce = Uuid::new_v4();
        let answer = sign_answer(&key('k'), nonce, b"{}");
        assert_eq!(r.take(b"{}", &answer, 7, NOW).err(), Some(Refused::Signature));
    }

    #[test]
    fn an_answer_counts_for_its_own_request_only() {
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        let signature = sign_answer(&key('k'), one, b"yes");
        assert!(answer_is_genuine(&key('k'), one, b"yes", &signature));
        assert!(!answer_is_genuine(&key('k'), two, b"yes", &signature));
        assert!(!answer_is_genuine(&key('k'), one, b"no", &signature));
        assert!(!answer_is_genuine(&key('x'), one, b"yes", &signature));
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_shows_itself() {
        let short = Key::new(&Secret::new(" ".repeat(40) + "hunter2"));
        assert!(short.is_err_and(|e| e.to_string().contains("openssl rand")));
        assert!(!format!("{:?}", key('k')).contains('k'));
    }
}
