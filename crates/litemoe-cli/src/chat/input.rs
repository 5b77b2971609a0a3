use std::io::{self, IsTerminal, Lines, StdinLock};

use anyhow::Context;
use console::Term;

use crate::chat::editor::{Editor, Pressed};

/// Source of messages.
pub(crate) enum Input {
    /// Terminal, with line editing and history.
    Terminal(Term, Box<Editor>),
    /// Pipe or file.
    Pipe(Lines<StdinLock<'static>>),
}

/// Result of reading one input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A line, or several lines joined where a backslash ends a line.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
}

impl Input {
    /// Opens standard input: as a terminal if standard input and output are both terminals.
    pub(crate) fn open() -> Self {
        match io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => Self::Terminal(Term::stdout(), Box::default()),
            false => Self::Pipe(io::stdin().lines()),
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }

    /// Reads the next input.
    pub(crate) fn read(&mut self) -> anyhow::Result<Read> {
        let mut text = String::new();
        loop {
            match self.line(if text.is_empty() { "> " } else { ". " })? {
                Read::Text(line) => match line.strip_suffix('\\') {
                    Some(begun) => text = format!("{text}{begun}\n"),
                    None => return Ok(Read::Text(text + &line)),
                },
                Read::End if !text.is_empty() => return Ok(Read::Text(text)),
                other => return Ok(other),
            }
        }
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Read> {
        match self {
            Self::Terminal(term, editor) => {
                edited(term, editor, prompt).context("cannot read from the terminal")
            }
            Self::Pipe(lines) => match lines.next() {
                Some(line) => Ok(Read::Text(line.context("cannot read standard input")?)),
                None => Ok(Read::End),
            },
        }
    }
}

/// Reads one line, redrawing it after every key.
fn edited(term: &Term, editor: &mut Editor, prompt: &str) -> io::Result<Read> {
    loop {
        let width = usize::from(term.size().1).saturating_sub(prompt.len() + 1);
        let (line, column) = editor.view(width);
        // To the first column, clear the line; then the cursor to its column.
        let column = prompt.len() + column;
        term.write_str(&format!("\r\x1b[K{prompt}{line}\r\x1b[{column}C"))?;
        let read = match editor.press(&term.read_key_raw()?) {
            Pressed::Going => continue,
            Pressed::Line(line) => Read::Text(line),
            Pressed::Interrupted => Read::Interrupted,
            Pressed::End => Read::End,
        };
        term.write_line("")?;
        return Ok(read);
    }
}
