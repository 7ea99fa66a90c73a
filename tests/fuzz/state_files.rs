//! Bad values in the files of a recorded host: in each leaf of a JSON file, in each word of any other, and
//! in the place of the file itself.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// An edit: a file, a place in it, and a value, each taken modulo what there is.
#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
pub struct StateEdit {
    pub file: u16,
    pub place: u16,
    pub value: u8,
}

/// Returns the files below a root that an edit may change, in a fixed order.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => rest.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Values that take the place of a leaf.
pub fn bad_values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |value, _| json!([value]));
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("/"),
        json!("../../../etc/passwd"),
        json!("\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}\r\n\t\u{0}"),
        json!("x".repeat(100_000)),
        json!("a,b:c=d [e] {f} $(g) `h` ; i | j"),
        json!([]),
        json!({}),
        json!(["\u{1b}[31m", -1, {"a": null}]),
        deep,
    ]
}

/// The number of values of an edit: those of a leaf, then those of a file.
pub fn value_count() -> usize {
    bad_values().len() + FILE_VALUES
}

const FILE_VALUES: usize = 10;

/// Changes one file of a host, and returns a description of the edit.
pub fn apply(root: &Path, files: &[PathBuf], edit: StateEdit) -> String {
    let Some(path) = files.get(usize::from(edit.file) % files.len().max(1)) else {
        return "no files".into();
    };
    // (An edit before may have made something else of it.)
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 20) {
        return "not a file".into();
    }
    let values = bad_values();
    let value = usize::from(edit.value) % value_count();
    // (Files of the kernel are files.)
    let is_kernels = ["proc", "sys"].iter().any(|name| path.starts_with(root.join(name)));
    if is_kernels && value >= values.len() + 6 {
        return "a file of the kernel".into();
    }
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    match values.get(value) {
        Some(bad) => format!("{shown}: {}", replace_leaf(path, edit.place, bad)),
        None => format!("{shown}: {}", replace_file(path, edit.place, value - values.len())),
    }
}

fn replace_leaf(path: &Path, place: u16, bad: &Value) -> String {
    let Ok(bytes) = fs::read(path) else { return "gone".into() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut parsed = match serde_json::from_str::<Value>(&text) {
        Ok(parsed @ (Value::Object(_) | Value::Array(_))) => parsed,
        _ => return replace_word(path, &text, place, bad),
    };
    let count = leaves(&mut parsed, &mut |_| false);
    let wanted = usize::from(place) % count.max(1);
    let mut index = 0;
    leaves(&mut parsed, &mut |leaf| {
        index += 1;
        if index - 1 == wanted {
            *leaf = bad.clone();
        }
        index > wanted
    });
    let _ = fs::write(path, parsed.to_string());
    format!("value {wanted} of {count} is {:.60}", bad.to_string())
}

/// Calls a function for each value that is not a container of others, and for each container, until it
/// returns true; returns how often.
fn leaves(value: &mut Value, each: &mut dyn FnMut(&mut Value) -> bool) -> usize {
    let mut count = 1;
    if each(value) {
        return count;
    }
    match value {
        Value::Array(items) => {
            count += items.iter_mut().map(|item| leaves(item, each)).sum::<usize>()
        }
        Value::Object(map) => {
            count += map.iter_mut().map(|(_, item)| leaves(item, each)).sum::<usize>();
        }
        _ => {}
    }
    count
}

fn replace_word(path: &Path, text: &str, place: u16, bad: &Value) -> String {
    let is_break = |c: char| c.is_whitespace() || "=:,()/\0".contains(c);
    let words: Vec<(usize, &str)> = text
        .split(is_break)
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
        .collect();
    let Some((start, word)) = words.get(usize::from(place) % words.len().max(1)) else {
        return "empty".into();
    };
    let bad = bad.as_str().map_or_else(|| bad.to_string(), str::to_owned);
    let changed = format!("{}{bad}{}", &text[..*start], &text[start + word.len()..]);
    let _ = fs::write(path, changed);
    format!("`{word:.40}` is {:.60}", bad.escape_default().to_string())
}

fn replace_file(path: &Path, place: u16, value: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let cut = usize::from(place) % bytes.len().max(1);
    let write = |bytes: &[u8]| drop(fs::write(path, bytes));
    let link = |target: &str| {
        let _ = fs::remove_file(path);
        let _ = symlink(target, path);
    };
    match value {
        0 => write(&[]),
        1 => write(&bytes[..cut]),
        2 => write(&[&bytes[..], b"\x00garbage\xff\xfe"].concat()),
        3 => write(&[&bytes[..cut], b"\x1b[2J\xff\x00\x80", &bytes[cut..]].concat()),
        4 => write(&bytes.repeat(3)),
        5 => write(&b"[".repeat(200_000)),
        6 => {
            let _ = fs::remove_file(path);
            let _ = nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU);
        }
        7 => link("/dev/zero"),
        8 => link(path.to_str().unwrap_or("/")),
        _ => drop(File::create(path).and_then(|file| file.set_len(1 << 32))),
    }
    [
        "empty",
        "cut off",
        "followed by garbage",
        "with garbage in it",
        "three times",
        "200,000 brackets",
        "a FIFO",
        "a link to /dev/zero",
        "a link to itself",
        "4 GiB of zeros",
    ][value]
        .into()
}
