//! The options of a command line, parsed as getopt_long(3) does. Pure.

/// The options of a program.
pub(in crate::analysis) struct OptionTable {
    /// Letters, each with `:` after it if it takes a value.
    pub short: &'static str,
    /// Long names, and the letter of each.
    pub long: &'static [(&'static str, char)],
    /// Whether options are found after other words, too: getopt(3) of glibc without `+`.
    pub permutes: bool,
}

/// A command line in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::analysis) struct ParsedOptions<'a> {
    /// The options as letters, with their values.
    pub options: Vec<(char, Option<&'a [u8]>)>,
    /// The other words.
    pub words: Vec<&'a [u8]>,
}

impl ParsedOptions<'_> {
    /// Whether an option is given.
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(found, _)| *found == letter)
    }
}

impl OptionTable {
    /// Parses the arguments after the name of the program; none if one of them is not an option of it.
    pub fn parse<'a>(&self, arguments: &[&'a [u8]]) -> Option<ParsedOptions<'a>> {
        let mut parsed = ParsedOptions { options: Vec::new(), words: Vec::new() };
        let mut rest = arguments.iter().skip(1).copied();
        while let Some(word) = rest.next() {
            match word {
                b"--" => parsed.words.extend(&mut rest),
                [b'-', b'-', long @ ..] => {
                    let mut parts = long.splitn(2, |b| *b == b'=');
                    let letter = self.long_option(parts.next().unwrap_or_default())?;
                    let value = match self.takes_value(letter)? {
                        true => Some(parts.next().or_else(|| rest.next())?),
                        false => None,
                    };
                    parsed.options.push((letter, value));
                }
                [b'-', letters @ ..] if !letters.is_empty() => {
                    self.short_options(letters, &mut rest, &mut parsed)?;
                }
                word => {
                    parsed.words.push(word);
                    if !self.permutes {
                        parsed.words.extend(&mut rest);
                    }
                }
            }
        }
        Some(parsed)
    }

    /// Parses joined letters; the rest after one that takes a value is the value.
    fn short_options<'a>(
        &self,
        letters: &'a [u8],
        rest: &mut impl Iterator<Item = &'a [u8]>,
        parsed: &mut ParsedOptions<'a>,
    ) -> Option<()> {
        for (index, letter) in letters.iter().enumerate() {
            let letter = char::from(*letter);
            if !self.takes_value(letter)? {
                parsed.options.push((letter, None));
                continue;
            }
            let joined = Some(&letters[index + 1..]).filter(|value| !value.is_empty());
            parsed.options.push((letter, Some(joined.or_else(|| rest.next())?)));
            break;
        }
        Some(())
    }

    /// Returns a long option; its name may be abbreviated as long as it is unique.
    fn long_option(&self, name: &[u8]) -> Option<char> {
        let exact = self.long.iter().find(|(long, _)| long.as_bytes() == name);
        let mut cut = self.long.iter().filter(|(long, _)| long.as_bytes().starts_with(name));
        let (_, letter) = exact.or_else(|| cut.next().filter(|_| cut.next().is_none()))?;
        Some(*letter)
    }

    /// Whether an option takes a value; none if the program does not have it.
    fn takes_value(&self, letter: char) -> Option<bool> {
        let after = self.short.split_once(letter).filter(|_| letter != ':')?.1;
        Some(after.starts_with(':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_getopt_does() {
        let table = |permutes| OptionTable {
            short: "vcr:",
            long: &[("verbose", 'v'), ("version", 'v'), ("rewrite", 'r')],
            permutes,
        };
        let words =
            |line: &'static str| -> Vec<&[u8]> { line.split(' ').map(str::as_bytes).collect() };
        let parse = |line| {
            let parsed = table(false).parse(&words(line))?;
            let options = parsed.options.iter().map(|(letter, value)| {
                format!("{letter}{}", String::from_utf8_lossy(value.unwrap_or_default()))
            });
            Some((options.collect::<Vec<_>>().join(" "), parsed.words.len()))
        };
        for (line, options, count) in [
            ("x -vc -r 1:2 run -v", "v c r1:2", 2),
            ("x -cvr1:2 -- -v", "c v r1:2", 1),
            ("x --rew 1:2 --rewrite=3:4 run", "r1:2 r3:4", 1),
            ("x run", "", 1),
        ] {
            assert_eq!(parse(line), Some((options.to_owned(), count)), "{line}");
        }
        assert_eq!(parse("x --ver run"), None);
        assert_eq!(parse("x -q run"), None);
        assert_eq!(parse("x -r"), None);
        let permuted = table(true).parse(&words("x run -v -- -c")).unwrap();
        assert_eq!((permuted.options.len(), permuted.words.len()), (1, 2));
    }
}
