//! The files of `--env-file`, as docker reads them (docker/cli, pkg/kvfile), and the words of `--env`.
//! Bytes in, variables out; it never opens a file.

/// Bytes that some editors begin a text with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a file: one `NAME=VALUE` a line, with blanks before the name left out and a carriage return at the
/// end as well; empty lines and those that begin with `#` are skipped. NAME alone is `lookup`'s value, if it
/// has one.
///
/// # Errors
/// A message with the number of the line that is not of this form.
pub fn parse(
    file: &[u8],
    lookup: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, String> {
    let mut variables = Vec::new();
    let file = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    for (number, line) in (1..).zip(file.split(|b| *b == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let cannot = |why: &str| Err(format!("line {number} {why}"));
        let name = line.split(|b| *b == b'=').next().unwrap_or_default();
        if line.contains(&0) {
            return cannot("has a null byte");
        } else if std::str::from_utf8(line).is_err() {
            return cannot("is not UTF-8");
        } else if name.is_empty() {
            return cannot("has no name before its `=`");
        } else if name.iter().any(u8::is_ascii_whitespace) {
            let name = String::from_utf8_lossy(name).into_owned();
            return cannot(&format!("has a blank in its name `{name}`"));
        } else if name.len() < line.len() {
            variables.push(line.to_owned())
        } else {
            variables.extend(lookup(name).map(|value| [name, b"=", &value].concat()))
        }
    }
    Ok(variables)
}

/// Parses a word of `--env`: `NAME=VALUE`, or NAME alone for `lookup`'s value; without one, the name alone
/// means that the variable is removed.
///
/// # Errors
/// A message, if it has no name.
pub fn parse_word(
    word: &[u8],
    lookup: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, String> {
    match word.iter().position(|b| *b == b'=') {
        _ if word.is_empty() => Err("it is empty".into()),
        Some(0) => Err("it has no name before its `=`".into()),
        Some(_) => Ok(word.to_owned()),
        None => Ok(lookup(word)
            .map_or_else(|| word.to_owned(), |value| [word, b"=", value.as_slice()].concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &[u8]) -> Option<Vec<u8>> {
        (name == b"SET").then(|| b"mine".to_vec())
    }

    #[test]
    fn a_file_is_read_as_docker_reads_it() {
        let file = b"\xef\xbb\xbfA=1\r\n  B=a b \r\n\n# C=3\nSET\nUNSET\n\tD=\nE==x";
        let variables = parse(file, &lookup).unwrap();
        let texts: Vec<&str> = variables.iter().map(|v| std::str::from_utf8(v).unwrap()).collect();
        assert_eq!(texts, ["A=1", "B=a b ", "SET=mine", "D=", "E==x"]);
    }

    #[test]
    fn a_file_is_refused_as_docker_refuses_it() {
        for (file, why) in [
            (&b"A=1\nWITH SPACE=1\n"[..], "line 2 has a blank in its name `WITH SPACE`"),
            (b"NAME \n", "line 1 has a blank in its name `NAME `"),
            (b"=x\n", "line 1 has no name before its `=`"),
            (b"A=1\n\nA=\xff\n", "line 3 is not UTF-8"),
            (b"A=\0\n", "line 1 has a null byte"),
        ] {
            assert_eq!(parse(file, &lookup), Err(why.to_owned()));
        }
    }

    #[test]
    fn words_without_a_name_are_refused() {
        let parsed = |word: &str| parse_word(word.as_bytes(), &lookup);
        assert_eq!(parsed("A=1"), Ok(b"A=1".to_vec()));
        assert_eq!(parsed("SET"), Ok(b"SET=mine".to_vec()));
        assert_eq!(parsed("UNSET"), Ok(b"UNSET".to_vec()));
        assert!(parsed("").is_err() && parsed("=x").is_err() && parsed("=").is_err());
    }
}
