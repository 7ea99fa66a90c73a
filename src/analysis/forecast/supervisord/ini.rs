//! Configuration files as supervisord reads them, with Python's `RawConfigParser(strict=False,
//! inline_comment_prefixes=(';', '#'))`. Held against Python's own parser in the test.

use std::collections::HashMap;

/// The sections of one or more files, in their order. (A container may have tens of thousands in one file.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IniFile {
    sections: Vec<IniSection>,
    /// Their places by name.
    index: HashMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct IniSection {
    name: String,
    /// Names in lower case, each once.
    options: Vec<(String, String)>,
    /// Their places by name.
    index: HashMap<String, usize>,
}

const DEFAULT: &str = "DEFAULT";

/// The file cannot be parsed, so that the program would not have started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedIni;

impl IniFile {
    /// Parses a file, and adds it to those before: an option that is there already is replaced.
    pub fn read(&mut self, text: &str) -> Result<(), MalformedIni> {
        let mut reader = Reader { file: self, section: None, option: None, indent: 0 };
        text.split_inclusive('\n').try_for_each(|line| reader.line(line))?;
        for section in &mut self.sections {
            for (_, value) in &mut section.options {
                value.truncate(value.trim_end().len());
            }
        }
        Ok(())
    }

    /// Returns the names of the sections.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| &*section.name).filter(|name| *name != DEFAULT)
    }

    /// Returns the value of an option in a section that exists.
    pub fn get(&self, section: &str, option: &str) -> Option<&str> {
        self.own(section, option).or_else(|| self.own(DEFAULT, option))
    }

    fn own(&self, section: &str, option: &str) -> Option<&str> {
        let section = &self.sections[*self.index.get(section)?];
        section.index.get(option).map(|index| section.options[*index].1.as_str())
    }

    /// Replaces a text in all values.
    pub fn replace(&mut self, text: &str, with: &str) {
        for (_, value) in self.sections.iter_mut().flat_map(|section| &mut section.options) {
            if value.contains(text) {
                *value = value.replace(text, with);
            }
        }
    }
}

/// The state of the parser between two lines (`RawConfigParser._read`).
struct Reader<'a> {
    file: &'a mut IniFile,
    section: Option<usize>,
    option: Option<usize>,
    indent: usize,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Result<(), MalformedIni> {
        let comment = comment_start(line);
        let value = line[..comment.unwrap_or(line.len())].trim();
        if value.is_empty() {
            // An empty line is part of the value before, unless it has a comment.
            if comment.is_none() {
                self.append("");
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if self.option.is_some() && indent > self.indent {
            self.append(value);
            return Ok(());
        }
        self.indent = indent;
        let header = value.strip_prefix('[').and_then(|rest| Some(rest.rsplit_once(']')?.0));
        if let Some(name) = header.filter(|name| !name.is_empty()) {
            self.section = Some(self.open(name));
            self.option = None;
            return Ok(());
        }
        let section = self.section.ok_or(MalformedIni)?;
        let (name, value) = value.split_once(['=', ':']).ok_or(MalformedIni)?;
        let name = name.trim_end().to_lowercase();
        if name.is_empty() {
            return Err(MalformedIni);
        }
        let IniSection { options, index, .. } = &mut self.file.sections[section];
        let index = *index.entry(name.clone()).or_insert_with(|| {
            options.push((name, String::new()));
            options.len() - 1
        });
        options[index].1 = value.trim().to_owned();
        self.option = Some(index);
        Ok(())
    }

    fn append(&mut self, line: &str) {
        if let (Some(section), Some(option)) = (self.section, self.option) {
            let value = &mut self.file.sections[section].options[option].1;
            value.push('\n');
            value.push_str(line);
        }
    }

    fn open(&mut self, name: &str) -> usize {
        let IniFile { sections, index } = &mut *self.file;
        *index.entry(name.to_owned()).or_insert_with(|| {
            let name = name.to_owned();
            sections.push(IniSection { name, options: Vec::new(), index: HashMap::new() });
            sections.len() - 1
        })
    }
}

/// Returns where the comment of a line begins: at the first `;` or `#` of the line, or after a space.
/// Python looks at the first of both, then at the second of both, and so on, until one of them counts.
fn comment_start(line: &str) -> Option<usize> {
    if line.trim_start().starts_with(['#', ';']) {
        return Some(0);
    }
    let indices = |prefix: char| line.match_indices(prefix).map(|(index, _)| index);
    let is_comment =
        |index: &usize| line[..*index].chars().next_back().is_none_or(char::is_whitespace);
    let (mut semicolons, mut hashes) = (indices(';'), indices('#'));
    loop {
        let next = [semicolons.next(), hashes.next()];
        if next == [None, None] {
            return None;
        }
        if let Some(start) = next.into_iter().flatten().filter(is_comment).min() {
            return Some(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are the output of Python 3.11.
    #[test]
    fn reads_as_python_does() {
        let text = "; top\n[DEFAULT]\nuser = nobody\n[program:a] ; x\ncommand = sh -c 'a;b #c' ;d\n  \
                    two # no\n\n  three\nStopSignal : INT\nempty =\n# [no]\nurl=a:b=c\n[x]y]\nk=v\n\
                    [program:a]\nurl = 2\n  # comment\n more;x\nodd= a#b ;c\nname : = v\n\n";
        let mut file = IniFile::default();
        file.read(text).unwrap();
        let sections: Vec<&str> = file.sections().collect();
        assert_eq!(sections, ["program:a", "x]y"]);
        for (option, value) in [
            ("command", "sh -c 'a;b\ntwo\n\nthree"),
            ("stopsignal", "INT"),
            ("empty", ""),
            ("url", "2\nmore;x"),
            ("odd", "a#b"),
            ("name", "= v"),
            ("user", "nobody"),
        ] {
            assert_eq!(file.get("program:a", option), Some(value), "{option}");
        }
        assert_eq!(file.get("x]y", "k"), Some("v"));
        assert_eq!(file.get("program:a", "k"), None);
    }

    #[test]
    fn refuses_the_files_that_python_refuses() {
        for text in ["a = b\n", "[x]\nword\n", "[x]\n = b\n"] {
            assert_eq!(IniFile::default().read(text), Err(MalformedIni), "{text}");
        }
    }
}
