//! The layout of a tracepoint's record, from its `format` file in tracefs: it differs between kernels
//! (names became `__data_loc` in Linux 6.16, `group_dead` appeared in 6.14).

use std::collections::HashMap;

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    offset: usize,
    size: usize,
    is_signed: bool,
    /// Whether the field has the place of the text: offset in the low half, length in the high one.
    is_location: bool,
}

/// The layout of a tracepoint's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracepointFormat {
    /// The tracepoint's number, in the first two bytes of each record.
    pub id: u16,
    fields: HashMap<String, Field>,
}

impl TracepointFormat {
    /// Parses a `format` file.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let fields = text.lines().filter_map(parse_field).collect();
        Some(Self { id, fields })
    }

    /// Returns a number of a record.
    pub fn int(&self, raw: &[u8], name: &str) -> Option<i64> {
        let field = self.fields.get(name).filter(|field| field.size > 0)?;
        let bytes = raw.get(field.offset..field.offset.checked_add(field.size)?)?;
        let mut wide = [0; 8];
        wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let value = u64::from_ne_bytes(wide);
        let unused = 64 - 8 * u32::try_from(field.size).ok()?;
        Some(match field.is_signed {
            true => ((value << unused) as i64) >> unused,
            false => value as i64,
        })
    }

    /// Returns a text of a record, up to its NUL.
    pub fn text<'r>(&self, raw: &'r [u8], name: &str) -> Option<&'r [u8]> {
        let field = self.fields.get(name)?;
        let (offset, size) = match field.is_location {
            true => {
                let location = self.int(raw, name)? as usize;
                (location & 0xffff, (location >> 16) & 0xffff)
            }
            false => (field.offset, field.size),
        };
        let bytes = raw.get(offset..offset.checked_add(size)?)?;
        bytes.split(|byte| *byte == 0).next()
    }
}

/// Parses a line such as `field:pid_t pid; offset:36; size:4; signed:1;` (with tabs).
fn parse_field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let mut number = |prefix| parts.next()?.strip_prefix(prefix)?.parse::<usize>().ok();
    let (offset, size) = (number("offset:")?, number("size:")?);
    let is_signed = number("signed:")? == 1;
    let name = declaration.split([' ', '*']).next_back()?;
    let name = name.split('[').next()?.to_owned();
    let is_location = declaration.starts_with("__data_loc");
    Some((name, Field { offset, size, is_signed, is_location }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: x\nID: 261\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\tfield:char comm[16];\toffset:4;\tsize:16;\tsigned:0;\n\tfield:pid_t pid;\toffset:20;\tsize:4;\tsigned:1;\n\tfield:__data_loc char[] child;\toffset:24;\tsize:4;\tsigned:0;\n\tfield:unsigned long rss;\toffset:32;\tsize:8;\tsigned:0;\n\nprint fmt: \"\"\n";

    fn record() -> Vec<u8> {
        let mut raw = vec![0; 48];
        raw[4..8].copy_from_slice(b"perl");
        raw[20..24].copy_from_slice(&(-7i32).to_ne_bytes());
        raw[24..28].copy_from_slice(&(40u32 | 5 << 16).to_ne_bytes());
        raw[32..40].copy_from_slice(&9u64.to_ne_bytes());
        raw[40..45].copy_from_slice(b"sleep");
        raw
    }

    #[test]
    fn reads_numbers_and_texts_by_their_names() {
        let (format, raw) = (TracepointFormat::parse(FORMAT).unwrap(), record());
        assert_eq!(format.id, 261);
        assert_eq!(format.int(&raw, "pid"), Some(-7));
        assert_eq!(format.int(&raw, "rss"), Some(9));
        assert_eq!(format.text(&raw, "comm"), Some(&b"perl"[..]));
        assert_eq!(format.text(&raw, "child"), Some(&b"sleep"[..]));
        assert_eq!(format.int(&raw, "other"), None);
    }

    #[test]
    fn a_record_that_is_cut_off_has_no_such_field() {
        let (format, raw) = (TracepointFormat::parse(FORMAT).unwrap(), record());
        for length in 0..raw.len() {
            let _ = format.text(&raw[..length], "child");
            let _ = format.int(&raw[..length], "rss");
        }
        assert_eq!(format.int(&raw[..34], "rss"), None);
        assert_eq!(format.text(&raw[..42], "child"), None);
        assert_eq!(TracepointFormat::parse("format:\n"), None);
    }
}
