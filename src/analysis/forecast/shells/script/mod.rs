//! Shell scripts as far as a forecast needs them: the simple commands in their order, each with its place in
//! the script. A script that is not understood is refused; nothing is guessed.

mod words;

use words::{Token, tokens};
pub(super) use words::{Unclear, Word};

/// A simple command: words without assignments and redirections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SimpleCommand {
    /// The assignments before it, or without a command.
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    /// The function that it is in.
    pub function: Option<String>,
    /// Whether it may be left out: in `if`, `case`, or behind `&&` and `||`.
    pub is_conditional: bool,
    pub is_in_loop: bool,
    /// Whether it runs in another process: in a subshell or pipeline, or in the background.
    pub is_in_subshell: bool,
    /// Whether it, or the compound command that ends here, runs in the background.
    pub is_background: bool,
    /// Whether it is part of a list or of a compound command in the background.
    pub is_in_job: bool,
}

impl SimpleCommand {
    /// Returns the name of the command; empty for assignments.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    /// Whether it runs exactly once, if the script runs past it.
    pub fn is_plain(&self) -> bool {
        !self.is_conditional && !self.is_in_loop && !self.is_in_subshell && self.function.is_none()
    }
}

/// Parses a script.
pub(super) fn parse(text: &str) -> Result<Vec<SimpleCommand>, Unclear> {
    let mut parser = ScriptParser { tokens: tokens(text)?, ..ScriptParser::default() };
    while parser.index < parser.tokens.len() {
        parser.command()?;
    }
    match parser.open.is_empty() {
        true => Ok(parser.commands),
        false => Err(Unclear),
    }
}

/// A compound command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Compound {
    If,
    Case,
    Loop,
    Braces,
    Subshell,
    Function(String),
}

#[derive(Default)]
struct ScriptParser {
    tokens: Vec<Token>,
    index: usize,
    commands: Vec<SimpleCommand>,
    /// The compound commands around, each with the number of commands before it.
    open: Vec<(Compound, usize)>,
    /// The number of commands before the list (`a && b`) and before the pipeline.
    list: usize,
    pipeline: usize,
    /// Whether the next command follows `&&` or `||`.
    is_behind: bool,
    /// The name of the function whose body comes next.
    function: Option<String>,
}

impl ScriptParser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.index)
    }

    fn next_is(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(Token::Operator(found)) if *found == operator)
    }

    /// Parses a command, or a part of a compound one.
    fn command(&mut self) -> Result<(), Unclear> {
        let token = self.peek().cloned().ok_or(Unclear)?;
        match token {
            Token::Operator("(") => {
                self.index += 1;
                self.enter(Compound::Subshell)
            }
            Token::Operator(")") => self.leave(&Compound::Subshell),
            Token::Operator(";;") => {
                self.index += 1;
                self.end_list();
                self.patterns()
            }
            Token::Operator(_) => self.separator(),
            Token::Word(word) if !word.is_quoted && !word.expands => self.keyword(&word.text),
            Token::Word(_) => self.simple(),
        }
    }

    fn keyword(&mut self, word: &str) -> Result<(), Unclear> {
        self.index += 1;
        match word {
            "if" => return self.enter(Compound::If),
            "while" | "until" => return self.enter(Compound::Loop),
            "then" | "elif" | "else" | "do" | "!" | "time" => self.end_list_before(word),
            "fi" => return self.leave_keyword(&Compound::If),
            "done" => return self.leave_keyword(&Compound::Loop),
            "}" => return self.leave_keyword(&Compound::Braces),
            "esac" => return self.leave_keyword(&Compound::Case),
            "{" => return self.enter(Compound::Braces),
            "for" | "select" => {
                self.enter(Compound::Loop)?;
                while !self.next_is(";") && !self.next_is("\n") {
                    self.index += 1;
                    self.peek().ok_or(Unclear)?;
                }
            }
            "case" => {
                self.enter(Compound::Case)?;
                let is_in = |token: &Token| matches!(token, Token::Word(word) if word.text == "in");
                while !self.peek().is_some_and(is_in) {
                    self.index += 1;
                    self.peek().ok_or(Unclear)?;
                }
                self.index += 1;
                return self.patterns();
            }
            "function" => {
                let Some(Token::Word(name)) = self.peek().cloned() else { return Err(Unclear) };
                self.index += 1;
                self.function = Some(name.text);
                if self.next_is("(") {
                    self.index += 2;
                }
            }
            "[[" => {
                let is_end =
                    |token: &Token| matches!(token, Token::Word(word) if word.text == "]]");
                while !self.peek().ok_or(Unclear).map(is_end)? {
                    self.index += 1;
                }
                self.index += 1;
                self.push(SimpleCommand { words: vec![plain("[[")], ..SimpleCommand::default() });
            }
            "coproc" => return Err(Unclear),
            _ => {
                self.index -= 1;
                return self.simple();
            }
        }
        Ok(())
    }

    fn end_list_before(&mut self, word: &str) {
        if !["!", "time"].contains(&word) {
            self.end_list();
        }
    }

    /// Skips the patterns of a `case`, up to the commands of one of them.
    fn patterns(&mut self) -> Result<(), Unclear> {
        while self.next_is("\n") {
            self.index += 1;
        }
        if matches!(self.peek(), Some(Token::Word(word)) if word.text == "esac" && !word.is_quoted)
        {
            return Ok(());
        }
        if !matches!(self.open.last(), Some((Compound::Case, _))) {
            return Err(Unclear);
        }
        if self.next_is("(") {
            self.index += 1;
        }
        while !self.next_is(")") {
            self.peek().ok_or(Unclear)?;
            self.index += 1;
        }
        self.index += 1;
        Ok(())
    }

    fn enter(&mut self, compound: Compound) -> Result<(), Unclear> {
        let compound = match (self.function.take(), compound) {
            (None, compound) => compound,
            (Some(name), Compound::Braces | Compound::Subshell) => Compound::Function(name),
            _ => return Err(Unclear),
        };
        self.open.push((compound, self.commands.len()));
        Ok(())
    }

    fn leave_keyword(&mut self, compound: &Compound) -> Result<(), Unclear> {
        self.index -= 1;
        self.leave(compound)
    }

    fn leave(&mut self, compound: &Compound) -> Result<(), Unclear> {
        self.index += 1;
        let (found, before) = self.open.pop().ok_or(Unclear)?;
        match &found {
            Compound::Function(_) if [Compound::Braces, Compound::Subshell].contains(compound) => {
                return Ok(());
            }
            found if found != compound => return Err(Unclear),
            _ => {}
        }
        // In the background, or in a pipeline, all of it runs in another process.
        let is_background = self.next_is("&");
        if is_background || self.next_is("|") || found == Compound::Subshell {
            let inner = self.commands[before..].iter_mut();
            inner.for_each(|command| {
                command.is_in_subshell = true;
                command.is_in_job |= is_background;
            });
            let whole = SimpleCommand { words: vec![plain("(")], ..SimpleCommand::default() };
            self.push(whole);
        }
        Ok(())
    }

    /// Handles the operators between commands.
    fn separator(&mut self) -> Result<(), Unclear> {
        let Some(Token::Operator(operator)) = self.peek().cloned() else { return Err(Unclear) };
        self.index += 1;
        match operator {
            "&&" | "||" => {
                self.is_behind = true;
                self.pipeline = self.commands.len();
            }
            "|" => {
                let parts = self.commands[self.pipeline..].iter_mut();
                parts.for_each(|command| command.is_in_subshell = true);
                self.is_behind = true;
            }
            "&" => {
                let (last, rest) = self.commands.split_last_mut().ok_or(Unclear)?;
                last.is_background = true;
                // A list in the background is one process.
                if self.list < rest.len() {
                    rest[self.list..].iter_mut().for_each(|command| {
                        command.is_in_subshell = true;
                        command.is_in_job = true;
                    });
                    last.is_conditional = false;
                }
                self.end_list();
            }
            _ => self.end_list(),
        }
        Ok(())
    }

    fn end_list(&mut self) {
        self.is_behind = false;
        self.list = self.commands.len();
        self.pipeline = self.list;
    }

    fn simple(&mut self) -> Result<(), Unclear> {
        let mut command = SimpleCommand::default();
        while let Some(Token::Word(word)) = self.peek().cloned() {
            self.index += 1;
            let assignment = word.text.split_once('=').filter(|(name, _)| is_name(name));
            match assignment {
                Some((name, value)) if command.words.is_empty() => {
                    let value = Word { text: value.to_owned(), ..word.clone() };
                    command.assignments.push((name.to_owned(), value));
                }
                _ => command.words.push(word),
            }
        }
        if command.words.len() == 1 && command.assignments.is_empty() && self.next_is("(") {
            self.index += 1;
            if !self.next_is(")") {
                return Err(Unclear);
            }
            self.index += 1;
            self.function = Some(command.name().to_owned());
            while self.next_is("\n") {
                self.index += 1;
            }
            return Ok(());
        }
        self.push(command);
        Ok(())
    }

    /// Adds a command at this place of the script.
    fn push(&mut self, mut command: SimpleCommand) {
        for (compound, _) in &self.open {
            match compound {
                Compound::If | Compound::Case => command.is_conditional = true,
                Compound::Loop => command.is_in_loop = true,
                Compound::Braces => {}
                Compound::Subshell => command.is_in_subshell = true,
                Compound::Function(name) => command.function = Some(name.clone()),
            }
        }
        command.is_conditional |= self.is_behind;
        self.commands.push(command);
    }
}

fn plain(text: &str) -> Word {
    Word { text: text.into(), ..Word::default() }
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && letters.all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns each command as its words, with a letter for each fact about its place.
    fn outline(text: &str) -> Result<Vec<String>, Unclear> {
        let commands = parse(text)?;
        let outline = commands.iter().map(|command| {
            let assigned =
                command.assignments.iter().map(|(name, value)| format!("{name}={}", value.text));
            let words = command.words.iter().map(|word| word.text.clone());
            let mut line = assigned.chain(words).collect::<Vec<_>>().join(" ");
            for (is, letter) in [
                (command.is_conditional, 'c'),
                (command.is_in_loop, 'l'),
                (command.is_in_subshell, 's'),
                (command.is_background, '&'),
                (command.is_in_job, 'j'),
            ] {
                if is {
                    line += &format!(" /{letter}");
                }
            }
            if let Some(function) = &command.function {
                line += &format!(" @{function}");
            }
            line
        });
        Ok(outline.collect())
    }

    #[test]
    fn finds_the_commands_and_their_places() {
        for (text, commands) in [
            ("a 'b c' \"$d\" # e\nX=1 f", &["a b c $d", "X=1 f"][..]),
            ("a & pid=$!; wait $pid", &["a /&", "pid=$!", "wait $pid"]),
            ("a 2>/dev/null >&2 <<E; b\nc; d\nE\ne", &["a", "b", "e"]),
            ("if a; then b; else c; fi; d", &["a /c", "b /c", "c /c", "d"]),
            ("while :; do a & wait $!; done", &[": /l", "a /l /&", "wait $! /l"]),
            ("a && b || c; d", &["a", "b /c", "c /c", "d"]),
            ("f() { a; }\nfunction g { b; }; f", &["a @f", "b @g", "f"]),
            ("(a; b) & c", &["a /s /j", "b /s /j", "( /&", "c"]),
            ("a | b & c", &["a /s /j", "b /&", "c"]),
            ("a && b & c", &["a /s /j", "b /&", "c"]),
            ("case $1 in a|b) c;; *) d ;; esac; e", &["c /c", "d /c", "e"]),
            ("for i in 1 2; do a; done\nb", &["a /l", "b"]),
            ("{ a; b; } > c; d", &["a", "b", "d"]),
            ("[[ -f a && b ]] || c", &["[[", "c /c"]),
            ("a $(b; c) `d`", &["a $(b; c) `d`"]),
            ("trap 'kill $!; exit' TERM", &["trap kill $!; exit TERM"]),
        ] {
            let commands = commands.iter().map(|command| (*command).to_owned()).collect();
            assert_eq!(outline(text), Ok(commands), "{text}");
        }
    }

    #[test]
    fn refuses_unknown_syntax() {
        for text in [
            "a 'b",
            "if a; then b",
            "a <<E\nb",
            "a <(case b in c) d ;; esac)",
            "a=(b c)",
            "coproc a",
            "a $'b'",
        ] {
            assert_eq!(parse(text), Err(Unclear), "{text}");
        }
    }
}
