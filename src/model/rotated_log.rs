//! The names of a log's older files: `LOG.1`, `LOG.2` (Docker), `LOG.20261126-105300` (the kubelet,
//! pkg/kubelet/logs/container_log_manager.go), either compressed with `.gz`. Pure.

use std::cmp::Reverse;

/// An older file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatedLog {
    /// The name in the directory of the log.
    pub name: String,
    /// Whether it is compressed by gzip(1).
    pub is_compressed: bool,
}

/// Returns the older files of a log among the names of its directory, the newest first. Of a file that is being
/// compressed, the whole one.
pub fn rotated_logs(log: &str, names: &[String]) -> Vec<RotatedLog> {
    let mut found: Vec<(Reverse<u64>, u64, RotatedLog)> = Vec::new();
    for name in names {
        let Some(suffix) = name.strip_prefix(log).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        let (number, is_compressed) = match suffix.strip_suffix(".gz") {
            Some(number) => (number, true),
            None => (suffix, false),
        };
        let file = RotatedLog { name: name.clone(), is_compressed };
        if let Some(stamp) = timestamp(number) {
            found.push((Reverse(stamp), 0, file));
        } else if let Ok(number) = number.parse::<u32>()
            && number > 0
        {
            found.push((Reverse(0), number.into(), file));
        }
    }
    found.sort_by_key(|(stamp, number, file)| (*stamp, *number, file.is_compressed));
    found.dedup_by_key(|(stamp, number, _)| (*stamp, *number));
    found.into_iter().map(|(_, _, file)| file).collect()
}

/// Parses `20261126-105300` to a number that grows with time.
fn timestamp(text: &str) -> Option<u64> {
    let (day, time) = text.split_once('-')?;
    let is_number = |text: &str, length| {
        text.len() == length && text.bytes().all(|digit| digit.is_ascii_digit())
    };
    (is_number(day, 8) && is_number(time, 6)).then(|| format!("{day}{time}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(log: &str, names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rotated_logs(log, &names).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn older_files_are_in_the_order_of_time() {
        let docker =
            ["a.log", "a.log.1", "a.log.1.gz", "a.log.10.gz", "a.log.2.gz", "b.log.1", "a.log.x"];
        assert_eq!(names("a.log", &docker), ["a.log.1", "a.log.2.gz", "a.log.10.gz"]);
        let kubelet = [
            "0.log",
            "0.log.20261126-104300.gz",
            "0.log.20261126-105300",
            "0.log.20261126-105300.tmp",
            "1.log",
        ];
        assert_eq!(names("0.log", &kubelet), ["0.log.20261126-105300", "0.log.20261126-104300.gz"]);
        assert_eq!(names("a", &["a.0", "a.-1", "a.", "a.1-2", "a.99999999999"]), [""; 0]);
    }
}
