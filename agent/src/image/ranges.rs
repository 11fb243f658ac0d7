//! Reads of single ranges of a remote file, for image formats whose tables lie anywhere in the file.
//!
//! From a server without range requests the file is read in one pass up to the last wanted byte and
//! everything else is dropped. Never holds more than one wanted piece.

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};

use super::ImageError;
use super::fetch::{FetchError, Identity, ImageStream, Outage, Remote, Trouble, chain, content_length, content_range};

/// Pieces closer to each other than so many piece lengths are fetched with one request.
const GAP: u64 = 2;
/// One request asks for no more than this, unless a single piece is larger.
const BATCH: u64 = 1 << 20;

/// Reader of pieces of the same file that a stream reads.
#[derive(Debug)]
pub(crate) struct RangeReader {
    remote: Remote,
    identity: Option<Identity>,
    /// Bytes from the file's start that are known already.
    head: Bytes,
    repeated: u64,
}

impl RangeReader {
    /// A reader of the same file as `stream`; it refuses answers about another one.
    pub(crate) fn beside(stream: &ImageStream) -> Self {
        let (remote, identity) = stream.origin();
        Self { remote, identity, head: Bytes::new(), repeated: 0 }
    }

    /// Gives the first bytes of the file, which then need no request.
    pub(crate) fn know_head(&mut self, head: Vec<u8>) {
        self.head = head.into();
    }

    /// Bytes received in vain because the server has no ranges.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Reads the pieces `(offset, length)`, which must be sorted by offset, and hands each to `take` with its index.
    ///
    /// # Errors
    /// When the server gives up, has another file by now, or the file ends before a piece does.
    pub(crate) async fn read(
        &mut self,
        pieces: &[(u64, usize)],
        mut take: impl FnMut(usize, &[u8]) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut next = 0;
        let mut outage = Outage::default();
        while let Some(&(offset, len)) = pieces.get(next) {
            if let Some(known) = part(&self.head, 0, offset, len) {
                take(next, known)?;
                next += 1;
                continue;
            }
            let mut end = offset.saturating_add(len as u64);
            let start = offset;
            for &(offset, len) in pieces.iter().skip(next + 1) {
                let piece_end = offset.saturating_add(len as u64);
                let gap = (len as u64).saturating_mul(GAP);
                if offset > end.saturating_add(gap) || piece_end.max(end) - start > BATCH {
                    break;
                }
                end = end.max(piece_end);
            }
            match self.fetch(start, end, pieces, &mut next, &mut take).await {
                Ok(()) => outage.over(),
                Err(Problem::Image(error)) => return Err(error),
                Err(Problem::Wire(Trouble::Final(FetchError::Changed { .. }))) => return Err(ImageError::Restart),
                Err(Problem::Wire(Trouble::Final(error))) => return Err(error.into()),
                Err(Problem::Wire(Trouble::Passing(last))) => outage.failed(&self.remote, start, last).await?,
            }
        }
        Ok(())
    }

    /// One request for `start..end`. Where the server answers with the whole file instead, all remaining pieces
    /// are taken from it.
    async fn fetch(
        &mut self,
        start: u64,
        end: u64,
        pieces: &[(u64, usize)],
        next: &mut usize,
        take: &mut impl FnMut(usize, &[u8]) -> Result<(), ImageError>,
    ) -> Result<(), Problem> {
        let url = self.remote.shown().to_owned();
        let protocol = |reason: &str| Problem::Wire(Trouble::Final(FetchError::Protocol { url: url.clone(), reason: reason.into() }));
        let beyond = || ImageError::Qcow2("its tables point beyond the end of the file".into());
        let mut request = self.remote.request().header(header::RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
        if let Some(validator) = self.identity.as_ref().and_then(Identity::if_range) {
            request = request.header(header::IF_RANGE, validator.clone());
        }
        let mut response = self.remote.answer(request).await.map_err(Problem::Wire)?;
        let (mut position, now) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (first, total) =
                    content_range(response.headers()).ok_or_else(|| protocol("answer 206 without a usable Content-Range"))?;
                if first != start {
                    return Err(protocol("the range it sent is not the range asked for"));
                }
                (start, Identity::of_headers(response.headers(), total))
            }
            StatusCode::OK => (0, Identity::of_headers(response.headers(), content_length(&response))),
            _ => return Err(Problem::Image(beyond())),
        };
        if self.identity.as_ref().is_some_and(|before| !before.agrees(&now)) {
            return Err(Problem::Wire(Trouble::Final(FetchError::Changed { url: self.remote.shown().to_owned() })));
        }
        let whole_file = response.status() == StatusCode::OK;
        // Bytes from `base` on that a piece still needs.
        let mut window = BytesMut::new();
        loop {
            let Some(&(offset, len)) = pieces.get(*next) else { return Ok(()) };
            let base = position - window.len() as u64;
            if !whole_file && offset.saturating_add(len as u64) > end {
                return Ok(());
            }
            if let Some(found) = part(&window, base, offset, len) {
                take(*next, found).map_err(Problem::Image)?;
                *next += 1;
                continue;
            }
            if offset < base {
                // A piece that overlaps one already dropped: a further request gets it.
                return Ok(());
            }
            let keep_from = usize::try_from(offset - base).unwrap_or(usize::MAX).min(window.len());
            let _ = window.split_to(keep_from);
            let chunk = match tokio::time::timeout(self.remote.timeout(), response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) if now.len().is_some_and(|total| offset.saturating_add(len as u64) > total) => {
                    return Err(Problem::Image(beyond()));
                }
                Ok(Ok(None)) => return Err(Problem::Wire(Trouble::Passing("the connection ended too early".into()))),
                Ok(Err(error)) => return Err(Problem::Wire(Trouble::Passing(chain(&error)))),
                Err(_) => return Err(Problem::Wire(Trouble::Passing("no data in time".into()))),
            };
            if whole_file {
                self.repeated += chunk.len() as u64;
            }
            position += chunk.len() as u64;
            window.extend_from_slice(&chunk);
        }
    }
}

enum Problem {
    Wire(Trouble),
    Image(ImageError),
}

/// The piece at `offset` when `held`, which starts at `base`, has all of it.
fn part(held: &[u8], base: u64, offset: u64, len: usize) -> Option<&[u8]> {
    let from = usize::try_from(offset.checked_sub(base)?).ok()?;
    held.get(from..from.checked_add(len)?)
}
