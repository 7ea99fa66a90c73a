//! Listing a directory that is open for reading, with no more calls than the listing itself takes: readdir(3)
//! makes four more system calls for each directory. The entries come one by one, so that the caller can stop.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{FileType, RawDir};

/// Bytes of entries that are read at once.
const CHUNK: usize = 16 << 10;

/// Calls a function with the name of each entry but `.` and `..`, and with whether it may be a directory: some
/// file systems do not say it.
///
/// # Errors
/// As getdents64(2), and that of the function, which ends the listing.
pub fn each_entry<E: From<io::Error>>(
    dir: impl AsFd,
    mut each: impl FnMut(&CStr, bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = [MaybeUninit::uninit(); CHUNK];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let kind = entry.file_type();
            each(name, matches!(kind, FileType::Directory | FileType::Unknown))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn entries_come_with_their_kind_and_more_than_a_chunk_of_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for number in 0..1000 {
            std::fs::write(dir.path().join(format!("file-with-a-long-name-{number}")), "").unwrap();
        }
        let open = || std::fs::File::open(dir.path()).unwrap();
        let mut found = BTreeMap::new();
        let add = |name: &CStr, is_dir| -> io::Result<()> {
            found.insert(name.to_str().unwrap().to_owned(), is_dir);
            Ok(())
        };
        each_entry(open(), add).unwrap();
        assert_eq!((found.len(), found["sub"]), (1001, true));
        assert!(!found["file-with-a-long-name-999"]);
        let mut count = 0;
        let stop = |_: &CStr, _| {
            count += 1;
            if count == 3 { Err(io::Error::other("enough")) } else { Ok(()) }
        };
        assert_eq!(each_entry(open(), stop).unwrap_err().to_string(), "enough");
        assert_eq!(count, 3);
    }
}
