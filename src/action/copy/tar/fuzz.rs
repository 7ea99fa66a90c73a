//! The entry for fuzzing of the reader of tar streams.

use super::attributes::MemberAttributes;
use super::pax::Records;
use super::read::TarReader;

/// Reads a stream with the attributes of its members; the data is never more than the stream.
pub fn read_stream(bytes: &[u8]) {
    let mut reader = TarReader::new(bytes);
    let mut total = 0;
    while let Ok(Ok(member)) = reader.next() {
        let records = Records { member: &member.records, global: &reader.global };
        let id = |_: bool, name: &[u8]| name.first().map(|byte| u32::from(*byte));
        let attributes = MemberAttributes::new(&member, &records, &id);
        assert_eq!(attributes.entry.metadata.mode & !0o7777, 0);
        let extents = &member.map.extents;
        assert!(
            extents.iter().all(|(start, length)| start.saturating_add(*length) <= member.map.size)
        );
        total += std::io::copy(&mut reader.data(), &mut std::io::sink()).unwrap_or(0);
        assert!(total <= bytes.len() as u64);
    }
}
