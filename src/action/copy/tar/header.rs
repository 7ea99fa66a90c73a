//! The fields of a header block that have to be taken as they are: numbers in octal and in base 256, of
//! either sign, the checksum, and the magic of compressed data (tar(5)).

use tar::Header;

/// The size of a block.
pub const BLOCK: usize = 512;
/// The size of a block as a number of bytes.
pub const BLOCK_SIZE: u64 = 512;

/// A block.
pub type Block = [u8; BLOCK];

/// Parses a number: octal digits between blanks, or base 256 in two's complement if the first bit is set.
/// None if it is not one, or does not fit.
pub fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let mut value = i128::from((first << 1).cast_signed() >> 1);
        for byte in rest {
            value = value.checked_mul(256)? + i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(is_blank).next().unwrap_or_default();
    let (digits, sign) = digits.strip_prefix(b"-").map_or((digits, 1), |digits| (digits, -1));
    let mut value: i64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(digit.into())?;
    }
    Some(value * sign)
}

/// Parses a number that cannot be negative.
pub fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|number| u64::try_from(number).ok())
}

/// Parses a decimal number.
pub fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Whether the checksum of a header is right. Some programs have added the bytes as signed ones.
pub fn is_header(block: &Block) -> bool {
    let field = &block[148..156];
    let Some(wanted) = number(field) else { return false };
    let others = block[..148].iter().chain(&block[156..]);
    let blanks = 8 * i64::from(b' ');
    let as_unsigned = others.clone().map(|byte| i64::from(*byte)).sum::<i64>() + blanks;
    let as_signed = others.map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + blanks;
    // (A header without a checksum is a block of zeros.)
    wanted != 0 && (wanted == as_unsigned || wanted == as_signed)
}

/// Returns the name and the target of a link in a header.
pub fn names(block: &Block) -> (Vec<u8>, Vec<u8>) {
    let header = Header::from_byte_slice(block);
    let link = header.link_name_bytes().unwrap_or_default().into_owned();
    (header.path_bytes().into_owned(), link)
}

/// Returns the program that decompresses a stream, by its first bytes; none if they are not known.
pub fn decompressor(start: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "gzip -d"),
        (b"\x1f\x9d", "gzip -d"),
        (b"BZh", "bzip2 -d"),
        (b"\xfd7zXZ\0", "xz -d"),
        (b"\x28\xb5\x2f\xfd", "zstd -d"),
        (b"\x04\x22\x4d\x18", "lz4 -d"),
        (b"LZIP", "lzip -d"),
    ];
    MAGICS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, program)| *program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000000009\0", None),
            (b"abc\0", None),
            (b"\x80\0\0\0\0\0\0\x05", Some(5)),
            (b"\x80\0\0\0\x02\0\0\0\0\0\0\0", Some(1 << 57)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xff\xff\xff\xff\xed\x30\x09\x00", Some(-315_619_072)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }

    #[test]
    fn a_header_is_known_by_its_checksum() {
        let mut header = Header::new_ustar();
        header.set_path("d\u{fc}").unwrap();
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(is_header(&block));
        assert_eq!(names(&block), ("d\u{fc}".as_bytes().to_vec(), Vec::new()));
        block[0] ^= 1;
        assert!(!is_header(&block) && !is_header(&[0; BLOCK]));
    }

    #[test]
    fn compressed_data_is_known() {
        assert_eq!(decompressor(b"\x1f\x8b\x08"), Some("gzip -d"));
        assert_eq!(decompressor(b"hello"), None);
    }
}
