//! The words and operators of a shell script (POSIX, 2.3 Token Recognition). Pure, and shorter than a shell: a
//! text that it does not understand is refused.

use std::iter::Peekable;
use std::str::Chars;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `;` `;;` `&` `&&` `|` `||` `(` `)` or a newline.
    Operator(&'static str),
}

/// A word without its quotes; expansions are kept as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Word {
    pub text: String,
    /// Whether it has an expansion.
    pub expands: bool,
    /// Whether any of it is quoted, so that it is not a keyword.
    pub is_quoted: bool,
}

/// The text is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Unclear;

/// Splits a script into tokens, without comments, redirections and here-documents.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Unclear> {
    let mut lexer =
        Lexer { rest: text.chars().peekable(), tokens: Vec::new(), documents: Vec::new() };
    while lexer.token()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    tokens: Vec<Token>,
    /// The here-documents that begin at the next line: their ends, and whether tabs before them count.
    documents: Vec<(String, bool)>,
}

impl Lexer<'_> {
    /// Reads a token. Returns false at the end.
    fn token(&mut self) -> Result<bool, Unclear> {
        let Some(next) = self.rest.peek().copied() else { return Ok(false) };
        match next {
            ' ' | '\t' | '\r' => {
                self.rest.next();
            }
            '\n' => {
                self.rest.next();
                self.tokens.push(Token::Operator("\n"));
                self.skip_documents()?;
            }
            '#' => while self.rest.next_if(|c| *c != '\n').is_some() {},
            ';' => self.operator(&[";;&", ";;", ";&", ";"]),
            '|' => self.operator(&["||", "|&", "|"]),
            '(' => self.operator(&["("]),
            ')' => self.operator(&[")"]),
            '&' => {
                let mut ahead = self.rest.clone();
                ahead.next();
                match ahead.peek() {
                    Some('>') => self.redirection()?,
                    _ => self.operator(&["&&", "&"]),
                }
            }
            '<' | '>' => self.redirection()?,
            _ => {
                let word = self.word()?;
                let is_number = !word.is_quoted && word.text.chars().all(|c| c.is_ascii_digit());
                match self.rest.peek() {
                    Some('<' | '>') if is_number => self.redirection()?,
                    // `<(command)` and the like.
                    Some('(') if word.text.ends_with(['=', '$', '?', '*', '+', '@', '!']) => {
                        return Err(Unclear);
                    }
                    _ => self.tokens.push(Token::Word(word)),
                }
            }
        }
        Ok(true)
    }

    fn operator(&mut self, operators: &[&'static str]) {
        let is_next = |operator: &&&str| {
            let mut ahead = self.rest.clone();
            operator.chars().all(|c| ahead.next() == Some(c))
        };
        let found = operators.iter().find(is_next).copied().unwrap_or(";");
        found.chars().for_each(|_| {
            self.rest.next();
        });
        let same = match found {
            ";;&" | ";&" => ";;",
            "|&" => "|",
            other => other,
        };
        self.tokens.push(Token::Operator(same));
    }

    /// Skips a redirection and its word.
    fn redirection(&mut self) -> Result<(), Unclear> {
        let mut operator = String::new();
        while let Some(c) = self.rest.next_if(|c| ['<', '>', '&', '|', '-'].contains(c)) {
            operator.push(c);
        }
        while self.rest.next_if(|c| [' ', '\t'].contains(c)).is_some() {}
        if operator.ends_with("&-") {
            return Ok(());
        }
        if self.rest.peek() == Some(&'(') {
            // `<(command)` as an argument.
            if !["<", ">"].contains(&operator.as_str()) {
                return Err(Unclear);
            }
            let mut word = Word { text: operator, expands: true, is_quoted: false };
            self.substitution(&mut word.text)?;
            self.tokens.push(Token::Word(word));
            return Ok(());
        }
        // `< <(command)`
        let mut ahead = self.rest.clone();
        if let (Some('<' | '>'), Some('(')) = (ahead.next(), ahead.next()) {
            self.rest.next();
            return self.substitution(&mut String::new());
        }
        let word = self.word()?;
        if operator.starts_with("<<") && !operator.starts_with("<<<") {
            self.documents.push((word.text, operator == "<<-"));
        }
        Ok(())
    }

    /// Reads the command of a process substitution. (The patterns of a `case` have brackets of their own.)
    fn substitution(&mut self, text: &mut String) -> Result<(), Unclear> {
        let start = text.len();
        self.nested('(', ')', text)?;
        if text[start..].contains("case") { Err(Unclear) } else { Ok(()) }
    }

    fn skip_documents(&mut self) -> Result<(), Unclear> {
        for (end, strips) in std::mem::take(&mut self.documents) {
            loop {
                self.rest.peek().ok_or(Unclear)?;
                let mut line = String::new();
                while let Some(c) = self.rest.next_if(|c| *c != '\n') {
                    line.push(c);
                }
                self.rest.next();
                if if strips { line.trim_start_matches('\t') } else { &line } == end {
                    break;
                }
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Result<Word, Unclear> {
        let mut word = Word::default();
        while let Some(next) = self.rest.peek().copied() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => {
                    self.rest.next();
                    word.is_quoted = true;
                    let closed = self.until('\'', &mut word.text);
                    closed.then_some(()).ok_or(Unclear)?;
                }
                '"' => {
                    self.rest.next();
                    word.is_quoted = true;
                    self.double_quoted(&mut word)?;
                }
                '\\' => {
                    self.rest.next();
                    word.is_quoted = true;
                    match self.rest.next().ok_or(Unclear)? {
                        '\n' => {}
                        c => word.text.push(c),
                    }
                }
                '$' | '`' => self.expansion(&mut word)?,
                c => {
                    self.rest.next();
                    word.text.push(c);
                }
            }
        }
        Ok(word)
    }

    /// Reads up to a character, which is not part of it. Returns false if it does not come.
    fn until(&mut self, end: char, text: &mut String) -> bool {
        for c in self.rest.by_ref() {
            if c == end {
                return true;
            }
            text.push(c);
        }
        false
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), Unclear> {
        loop {
            match self.rest.peek().copied().ok_or(Unclear)? {
                '"' => {
                    self.rest.next();
                    return Ok(());
                }
                '\\' => {
                    self.rest.next();
                    match self.rest.next().ok_or(Unclear)? {
                        '\n' => {}
                        c @ ('$' | '`' | '"' | '\\') => word.text.push(c),
                        c => word.text.extend(['\\', c]),
                    }
                }
                '$' | '`' => self.expansion(word)?,
                c => {
                    self.rest.next();
                    word.text.push(c);
                }
            }
        }
    }

    /// Reads an expansion as it is written: `$name`, `${...}`, `$(...)`, a single special character, or
    /// backquotes.
    fn expansion(&mut self, word: &mut Word) -> Result<(), Unclear> {
        word.expands = true;
        let first = self.rest.next().ok_or(Unclear)?;
        word.text.push(first);
        if first == '`' {
            let closed = self.until('`', &mut word.text);
            word.text.push('`');
            return closed.then_some(()).ok_or(Unclear);
        }
        match self.rest.peek() {
            Some('{') => self.nested('{', '}', &mut word.text),
            Some('(') => self.nested('(', ')', &mut word.text),
            // `$'...'` and `$"..."`.
            Some('\'' | '"') => Err(Unclear),
            Some(c) if c.is_alphanumeric() || *c == '_' => {
                let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
                while let Some(c) = self.rest.next_if(is_name) {
                    word.text.push(c);
                }
                Ok(())
            }
            Some(c) if "!?@*#$-".contains(*c) => {
                word.text.extend(self.rest.next());
                Ok(())
            }
            // A dollar sign.
            _ => Ok(()),
        }
    }

    /// Reads up to the bracket that closes, over quotes.
    fn nested(&mut self, open: char, close: char, text: &mut String) -> Result<(), Unclear> {
        let mut depth = 0;
        let mut quote = None;
        while let Some(c) = self.rest.next() {
            text.push(c);
            match (c, quote) {
                ('\\', _) if quote != Some('\'') => text.extend(self.rest.next()),
                (c, Some(open)) if c == open => quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => quote = Some(c),
                (c, None) if c == open => depth += 1,
                (c, None) if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(Unclear)
    }
}
