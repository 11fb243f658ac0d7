//! The `Range` request header (RFC 9110 section 14) for single byte ranges. Pure.

/// Bytes of a representation, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// What a `Range` header asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Everything: no range, several ranges, another unit or bad syntax (all of which a server may ignore).
    Whole,
    /// One satisfiable range.
    Part(ByteRange),
    /// A range outside the representation: 416.
    Unsatisfiable,
}

/// Reads the header's value for a representation of `len` bytes.
pub fn parse(value: &[u8], len: u64) -> Asked {
    parse_text(value, len).unwrap_or(Asked::Whole)
}

fn parse_text(value: &[u8], len: u64) -> Option<Asked> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        // The last so many bytes.
        let suffix = number(last)?;
        if suffix == 0 || len == 0 {
            return Some(Asked::Unsatisfiable);
        }
        return Some(Asked::Part(ByteRange { start: len.saturating_sub(suffix), end: len }));
    }
    let start = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < start {
        return None;
    }
    if start >= len {
        return Some(Asked::Unsatisfiable);
    }
    Some(Asked::Part(ByteRange { start, end: last.saturating_add(1).min(len) }))
}

/// Digits only; more than 64 bits count as "very far".
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, end: u64) -> Asked {
        Asked::Part(ByteRange { start, end })
    }

    #[test]
    fn the_three_forms_of_one_range_are_understood() {
        assert_eq!(parse(b"bytes=0-99", 1000), part(0, 100));
        assert_eq!(parse(b"bytes=900-", 1000), part(900, 1000));
        assert_eq!(parse(b"Bytes=-100", 1000), part(900, 1000));
        assert_eq!(parse(b"bytes=-5000", 1000), part(0, 1000));
        assert_eq!(parse(b"bytes=990-5000", 1000), part(990, 1000));
        assert_eq!(parse(b"bytes=0-99999999999999999999999", 1000), part(0, 1000));
    }

    #[test]
    fn a_range_behind_the_end_is_unsatisfiable() {
        for text in ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(parse(text.as_bytes(), 1000), Asked::Unsatisfiable, "{text}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Asked::Unsatisfiable);
    }

    #[test]
    fn what_is_no_single_byte_range_gets_everything() {
        for text in ["", "bytes", "bytes=", "bytes=-", "bytes=5-1", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(parse(text.as_bytes(), 1000), Asked::Whole, "{text}");
        }
        assert_eq!(parse(b"bytes=\xff-", 1000), Asked::Whole);
    }
}
