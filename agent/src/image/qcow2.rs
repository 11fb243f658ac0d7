//! qcow2 (QEMU `docs/interop/qcow2`), versions 2 and 3, written to a disk in one front-to-back pass over the file.
//!
//! The tables are read first and turned round: from "which host cluster holds this guest cluster" into a list
//! ordered as the file is. Then the file streams past once, is hashed, and each cluster goes to its place.
//! Memory is bounded by the list (16 bytes for a run of clusters) and one compressed cluster.
//! Backing files, data files, encryption and unknown features are refused, never ignored.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};

use super::ImageError;
use super::decode::Decoded;
use super::ranges::RangeReader;
use super::write::DiskSink;

/// Largest first-level table that is read, in bytes: 256 TiB of 64 KiB clusters.
const MAX_L1: u64 = 4 << 20;
/// Runs and compressed clusters that are kept: 32 MiB of memory.
const MAX_EXTENTS: usize = 2 << 20;
/// Bits 9 to 55 of a table entry.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ALL_ZERO: u64 = 1;

const FEATURE_DIRTY: u64 = 1;
const FEATURE_CORRUPT: u64 = 1 << 1;
const FEATURE_DATA_FILE: u64 = 1 << 2;
const FEATURE_COMPRESSION: u64 = 1 << 3;
const FEATURE_EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

fn refuse<T>(why: impl Into<String>) -> Result<T, ImageError> {
    Err(ImageError::Qcow2(why.into()))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)
}

/// The parts of a header that reading needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    version: u32,
    cluster_bits: u32,
    size: u64,
    l1_offset: u64,
    l1_entries: u64,
}

impl Header {
    /// Parses and judges a header; `head` is the file's beginning.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, ImageError> {
        let Some(header) = Self::fields(head)? else { return refuse("its header is cut short") };
        Ok(header)
    }

    fn fields(head: &[u8]) -> Result<Option<Self>, ImageError> {
        macro_rules! field {
            ($read:ident, $at:expr) => {
                match $read(head, $at) {
                    Some(value) => value,
                    None => return Ok(None),
                }
            };
        }
        if !head.starts_with(b"QFI\xfb") {
            return refuse("it does not start as one");
        }
        let version = field!(be32, 4);
        if version != 2 && version != 3 {
            return refuse(format!("version {version} is not known"));
        }
        if field!(be64, 8) != 0 {
            return refuse("it has a backing file, which is never followed: flatten it with qemu-img convert");
        }
        if field!(be32, 32) != 0 {
            return refuse("it is encrypted: decrypt it with qemu-img convert");
        }
        let cluster_bits = field!(be32, 20);
        if !(9..=21).contains(&cluster_bits) {
            return refuse(format!("its cluster size 2^{cluster_bits} is outside 2^9 to 2^21"));
        }
        let mut header_len = 72;
        if version == 3 {
            Self::judge_features(field!(be64, 72), head)?;
            header_len = field!(be32, 100);
            if header_len < 104 || header_len % 8 != 0 || u64::from(header_len) > 1 << cluster_bits {
                return refuse(format!("its header length {header_len} makes no sense"));
            }
        }
        Self::judge_extensions(head, header_len as usize, 1 << cluster_bits)?;
        let size = field!(be64, 24);
        if size == 0 {
            return refuse("its virtual size is 0");
        }
        let per_l2 = 1_u64 << (2 * cluster_bits - 3);
        let l1_entries = size.div_ceil(per_l2);
        if l1_entries > u64::from(field!(be32, 36)) {
            return refuse("its first-level table is too small for its size");
        }
        if l1_entries * 8 > MAX_L1 {
            return refuse("its first-level table is too large: convert it with cluster_size=64k");
        }
        let l1_offset = field!(be64, 40);
        if l1_offset == 0 || l1_offset % (1 << cluster_bits) != 0 || l1_offset > OFFSET_MASK {
            return refuse("its first-level table is not where one can be");
        }
        Ok(Some(Self { version, cluster_bits, size, l1_offset, l1_entries }))
    }

    fn judge_features(features: u64, head: &[u8]) -> Result<(), ImageError> {
        if features & FEATURE_CORRUPT != 0 {
            return refuse("it is marked corrupt: repair it with qemu-img check -r all");
        }
        if features & FEATURE_DATA_FILE != 0 {
            return refuse("its data is in another file, which is never followed: flatten it with qemu-img convert");
        }
        if features & FEATURE_EXTENDED_L2 != 0 {
            return refuse("it has extended L2 entries, which are not built: convert it with extended_l2=off");
        }
        if features & FEATURE_COMPRESSION != 0 && head.get(104).copied() != Some(0) {
            return refuse("its clusters are compressed with zstd, which is not built: convert it with compression_type=zlib");
        }
        let known = FEATURE_DIRTY | FEATURE_CORRUPT | FEATURE_DATA_FILE | FEATURE_COMPRESSION | FEATURE_EXTENDED_L2;
        if features & !known != 0 {
            return refuse(format!("it needs features that are not known ({:#x}): convert it with qemu-img", features & !known));
        }
        Ok(())
    }

    fn judge_extensions(head: &[u8], start: usize, cluster: usize) -> Result<(), ImageError> {
        let area = head.get(..cluster).unwrap_or(head);
        let mut at = start;
        while let (Some(kind), Some(len)) = (be32(area, at), be32(area, at.saturating_add(4))) {
            match kind {
                EXTENSION_END => break,
                EXTENSION_DATA_FILE => return refuse("it names a data file, which is never followed: flatten it with qemu-img convert"),
                EXTENSION_ENCRYPTION => return refuse("it is encrypted: decrypt it with qemu-img convert"),
                _ => {}
            }
            at = at.saturating_add(8).saturating_add((len as usize).saturating_add(7) & !7);
        }
        Ok(())
    }

    /// Bytes of the disk that the image describes.
    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn entries_per_l2(&self) -> u64 {
        self.cluster() / 8
    }

    /// Second-level tables named by the first-level table: (index, file offset), ordered by offset.
    fn second_level(&self, l1: &[u8]) -> Result<Vec<(u32, u64)>, ImageError> {
        let mut tables = Vec::new();
        for (index, entry) in (0_u32..).zip(l1.chunks_exact(8)) {
            let offset = be64(entry, 0).unwrap_or(0) & OFFSET_MASK;
            if offset == 0 {
                continue;
            }
            if !offset.is_multiple_of(self.cluster()) {
                return refuse("a second-level table is not aligned: the image is corrupt");
            }
            tables.push((index, offset));
        }
        tables.sort_unstable_by_key(|(_, offset)| *offset);
        Ok(tables)
    }
}

/// A run of plain clusters, or one compressed cluster: `guest` is a cluster number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    host: u64,
    guest: u32,
    /// Clusters of a plain run; bytes that may hold a compressed cluster.
    len: u32,
}

/// Where everything is, ordered as in the file.
#[derive(Debug)]
pub(crate) struct Plan {
    header: Header,
    plain: Vec<Extent>,
    packed: Vec<Extent>,
}

impl Plan {
    /// Reads the image's tables.
    pub(crate) async fn read(header: &Header, reader: &mut RangeReader) -> Result<Self, ImageError> {
        let mut plan = Self { header: header.clone(), plain: Vec::new(), packed: Vec::new() };
        let l1_len = usize::try_from(header.l1_entries * 8).unwrap_or(usize::MAX);
        let mut tables = Vec::new();
        reader
            .read(&[(header.l1_offset, l1_len)], |_, l1| {
                tables = header.second_level(l1)?;
                Ok(())
            })
            .await?;
        let table_len = usize::try_from(header.cluster()).unwrap_or(usize::MAX);
        let pieces: Vec<(u64, usize)> = tables.iter().map(|(_, offset)| (*offset, table_len)).collect();
        reader.read(&pieces, |n, l2| plan.add(tables.get(n).map_or(0, |(index, _)| *index), l2)).await?;
        plan.order();
        Ok(plan)
    }

    /// Takes in one second-level table.
    fn add(&mut self, l1_index: u32, l2: &[u8]) -> Result<(), ImageError> {
        let cluster = self.header.cluster();
        let clusters = self.header.size.div_ceil(cluster);
        let first = u64::from(l1_index) * self.header.entries_per_l2();
        for (guest, bytes) in (first..).zip(l2.chunks_exact(8)) {
            if guest >= clusters {
                break;
            }
            let Ok(number) = u32::try_from(guest) else {
                return refuse("it has more than 2^32 clusters: convert it with cluster_size=64k");
            };
            let entry = be64(bytes, 0).unwrap_or(0);
            if entry & COMPRESSED != 0 {
                let shift = 62 - (self.header.cluster_bits - 8);
                let host = entry & ((1 << shift) - 1);
                let sectors = (entry & (COMPRESSED - 1)) >> shift;
                let len = (sectors + 1) * 512 - host % 512;
                self.packed.push(Extent { host, guest: number, len: u32::try_from(len).unwrap_or(u32::MAX) });
            } else {
                let host = entry & OFFSET_MASK;
                let zero = self.header.version >= 3 && entry & ALL_ZERO != 0;
                if host == 0 || zero {
                    continue;
                }
                if !host.is_multiple_of(cluster) {
                    return refuse("a data cluster is not aligned: the image is corrupt");
                }
                match self.plain.last_mut() {
                    Some(run) if run.guest.checked_add(run.len) == Some(number) && run.host + u64::from(run.len) * cluster == host => {
                        run.len += 1;
                    }
                    _ => self.plain.push(Extent { host, guest: number, len: 1 }),
                }
            }
            if self.plain.len() + self.packed.len() > MAX_EXTENTS {
                return refuse("it is too fragmented for the memory bound: convert it with qemu-img convert, or with larger clusters");
            }
        }
        Ok(())
    }

    fn order(&mut self) {
        self.plain.sort_unstable_by_key(|extent| extent.host);
        self.packed.sort_unstable_by_key(|extent| extent.host);
    }

    /// Streams the file onto the disk; holes and zero clusters become zeros. Returns the virtual size.
    pub(crate) async fn write(self, image: &mut Decoded, sink: &mut DiskSink) -> Result<u64, ImageError> {
        let size = self.header.size;
        let mut pass = Pass::new(self);
        while let Some(chunk) = image.chunk().await? {
            pass.feed(&chunk, sink)?;
        }
        pass.end(sink)?.zero_holes(sink)?;
        Ok(size)
    }

    fn zero_holes(mut self, sink: &mut DiskSink) -> Result<(), ImageError> {
        let cluster = self.header.cluster();
        for packed in &mut self.packed {
            packed.len = 1;
        }
        self.plain.append(&mut self.packed);
        self.plain.sort_unstable_by_key(|extent| extent.guest);
        let mut done = 0;
        for extent in &self.plain {
            let start = u64::from(extent.guest) * cluster;
            if start > done {
                sink.zero(done, start - done)?;
            }
            done = done.max(start + u64::from(extent.len) * cluster);
        }
        if done < self.header.size {
            sink.zero(done, self.header.size - done)?;
        }
        Ok(())
    }
}

/// State of the one pass over the file.
struct Pass {
    plan: Plan,
    /// Runs that lie under the current position: file offset, end, guest offset of the file offset.
    active: Vec<(u64, u64, u64)>,
    next_plain: usize,
    next_packed: usize,
    /// File bytes before `position` that a compressed cluster still needs.
    window: Vec<u8>,
    position: u64,
    inflate: Decompress,
    cluster: Vec<u8>,
}

impl Pass {
    fn new(plan: Plan) -> Self {
        let cluster = vec![0; 1 << plan.header.cluster_bits];
        Self {
            plan,
            active: Vec::new(),
            next_plain: 0,
            next_packed: 0,
            window: Vec::new(),
            position: 0,
            inflate: Decompress::new(false),
            cluster,
        }
    }

    /// Takes the next bytes of the file.
    fn feed(&mut self, chunk: &Bytes, sink: &mut DiskSink) -> Result<(), ImageError> {
        let end = self.position + chunk.len() as u64;
        let cluster = self.plan.header.cluster();
        let size = self.plan.header.size;
        while let Some(run) = self.plan.plain.get(self.next_plain).filter(|run| run.host < end) {
            let guest = u64::from(run.guest) * cluster;
            // The last cluster may reach past the end of the disk.
            let len = (u64::from(run.len) * cluster).min(size - guest);
            self.active.push((run.host, run.host + len, guest));
            self.next_plain += 1;
        }
        for (from, until, guest) in &mut self.active {
            let stop = (*until).min(end);
            let range = usize::try_from(*from - self.position).ok().zip(usize::try_from(stop - self.position).ok());
            if let Some((a, b)) = range.filter(|(a, b)| a <= b && *b <= chunk.len()) {
                sink.write_shared(*guest, chunk.slice(a..b))?;
            }
            *guest += stop - *from;
            *from = stop;
        }
        self.active.retain(|(from, until, _)| from < until);
        self.position = end;
        if self.next_packed < self.plan.packed.len() {
            self.window.extend_from_slice(chunk);
            self.unpack(sink, false)?;
        }
        Ok(())
    }

    /// Decompresses the clusters whose bytes are all there (or, at the end of the file, as many as will come).
    fn unpack(&mut self, sink: &mut DiskSink, ended: bool) -> Result<(), ImageError> {
        let base = self.position - self.window.len() as u64;
        let mut keep = self.position;
        while let Some(extent) = self.plan.packed.get(self.next_packed) {
            let until = extent.host + u64::from(extent.len);
            if until > self.position && !ended {
                keep = extent.host.min(self.position);
                break;
            }
            let from = usize::try_from(extent.host - base).unwrap_or(usize::MAX);
            let stop = usize::try_from(until - base).unwrap_or(usize::MAX).min(self.window.len());
            let Some(data) = self.window.get(from..stop).filter(|data| !data.is_empty()) else {
                return refuse("a compressed cluster lies beyond the end of the file");
            };
            self.inflate.reset(false);
            let result = self.inflate.decompress(data, &mut self.cluster, FlushDecompress::Finish);
            if result.is_err() || self.inflate.total_out() != self.cluster.len() as u64 {
                return refuse("a compressed cluster cannot be decompressed: the image is corrupt");
            }
            let guest = u64::from(extent.guest) * self.plan.header.cluster();
            let len = (self.plan.header.size - guest).min(self.cluster.len() as u64);
            sink.write(guest, self.cluster.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default())?;
            self.next_packed += 1;
        }
        let drop_len = usize::try_from(keep - base).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..drop_len);
        Ok(())
    }

    /// The file has ended: a last plain cluster that was cut short reads as zeros, as QEMU has it.
    fn end(mut self, sink: &mut DiskSink) -> Result<Plan, ImageError> {
        self.unpack(sink, true)?;
        for (from, until, guest) in &self.active {
            if until - from > self.plan.header.cluster() {
                return refuse("its data lies beyond the end of the file: the file is incomplete");
            }
            sink.zero(*guest, until - from)?;
        }
        if self.next_plain < self.plan.plain.len() {
            return refuse("its data lies beyond the end of the file: the file is incomplete");
        }
        Ok(self.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::write::Disk;
    use proptest::prelude::*;

    /// A version 3 header of `bits`-bit clusters whose first-level table is in cluster 1.
    fn header(bits: u32, size: u64, l1_entries: u32) -> Vec<u8> {
        let mut head = vec![0; 112];
        let mut put = |at: usize, value: &[u8]| head[at..at + value.len()].copy_from_slice(value);
        put(0, b"QFI\xfb");
        put(4, &3_u32.to_be_bytes());
        put(20, &bits.to_be_bytes());
        put(24, &size.to_be_bytes());
        put(36, &l1_entries.to_be_bytes());
        put(40, &(1_u64 << bits).to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        head
    }

    fn disk(size: u64) -> (tempfile::TempDir, DiskSink) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
        (dir, sink)
    }

    /// Runs the whole mapping on tables and file bytes of a hostile image.
    fn run(header: &Header, l1: &[u8], l2: &[u8], file: &[u8], sink: &mut DiskSink) -> Result<(), ImageError> {
        let mut plan = Plan { header: header.clone(), plain: Vec::new(), packed: Vec::new() };
        for (index, _) in header.second_level(l1)? {
            plan.add(index, l2)?;
        }
        plan.order();
        let mut pass = Pass::new(plan);
        for chunk in file.chunks(1000) {
            pass.feed(&Bytes::copy_from_slice(chunk), sink)?;
            // A compressed cluster may take two clusters; what waits is never more than that and a chunk.
            assert!(pass.window.len() <= 2 * (1 << header.cluster_bits) + 1024 + 1000, "{}", pass.window.len());
        }
        pass.end(sink)?.zero_holes(sink)
    }

    #[test]
    fn a_good_header_is_understood() {
        let found = Header::parse(&header(16, 10 << 30, 20)).unwrap();
        assert_eq!((found.virtual_size(), found.l1_entries, found.l1_offset), (10 << 30, 20, 65536));
    }

    #[test]
    fn headers_that_would_need_much_memory_are_refused() {
        for (bits, size, entries) in
            [(9, 1 << 40, u32::MAX), (16, u64::MAX, u32::MAX), (21, 0, 1), (8, 1, 1), (22, 1, 1), (16, 10 << 30, 19)]
        {
            assert!(matches!(Header::parse(&header(bits, size, entries)), Err(ImageError::Qcow2(_))), "{bits} {size}");
        }
    }

    #[test]
    fn a_data_file_is_refused_even_when_only_an_extension_names_it() {
        let mut head = header(16, 1 << 30, 2);
        head[104..108].copy_from_slice(&EXTENSION_DATA_FILE.to_be_bytes());
        assert!(Header::parse(&head).unwrap_err().to_string().contains("data file"));
        // Behind another extension too.
        head[104..112].copy_from_slice(&[0x12, 0x34, 0x56, 0x78, 0, 0, 0, 3]);
        head.extend([0; 8]);
        head.extend(EXTENSION_DATA_FILE.to_be_bytes());
        head.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        assert!(Header::parse(&head).unwrap_err().to_string().contains("data file"));
    }

    #[test]
    fn runs_of_neighbouring_clusters_take_one_entry() {
        let head = Header::parse(&header(16, 1 << 30, 2)).unwrap();
        let mut plan = Plan { header: head, plain: Vec::new(), packed: Vec::new() };
        let l2: Vec<u8> = (0..8192_u64).flat_map(|n| ((n + 5) << 16 | 1 << 63).to_be_bytes()).collect();
        plan.add(0, &l2).unwrap();
        assert_eq!(plan.plain, [Extent { host: 5 << 16, guest: 0, len: 8192 }]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_header_that_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic: bool) {
            let mut head = bytes;
            if magic && head.len() >= 8 {
                head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            }
            if let Ok(header) = Header::parse(&head) {
                prop_assert!(header.l1_entries * 8 <= MAX_L1);
            }
        }

        #[test]
        fn arbitrary_tables_stay_within_the_disk_and_the_memory(
            bits in 9_u32..13,
            clusters in 1_u64..100,
            ragged in 0_u64..512,
            l2 in proptest::collection::vec(prop_oneof![
                any::<u64>(),
                // Plain clusters inside the file.
                (0_u64..40).prop_map(|n| n << 12),
                // Compressed clusters inside the file.
                (0_u64..50_000, 0_u64..4).prop_map(|(at, n)| COMPRESSED | at | n << 58),
            ], 0..130),
            l1: u64,
            file in proptest::collection::vec(any::<u8>(), 0..60_000),
        ) {
            let size = (clusters << bits) - ragged;
            let head = Header::parse(&header(bits, size, 1000)).unwrap();
            let l1: Vec<u8> = [l1, 1 << 13, 2 << 13].iter().flat_map(|entry| entry.to_be_bytes()).collect();
            let l2: Vec<u8> = l2.iter().flat_map(|entry| entry.to_be_bytes()).take(1 << bits).collect();
            let (_dir, mut sink) = disk(size);
            if let Err(error) = run(&head, &l1, &l2, &file, &mut sink) {
                prop_assert!(matches!(error, ImageError::Qcow2(_)), "{error}");
            }
        }
    }
}
