use console::{Key, measure_text_width};

/// Line editor with history, which the arrow keys browse.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    line: Vec<char>,
    /// Number of characters before the cursor.
    cursor: usize,
    history: Vec<Vec<char>>,
    /// Index in the history of the shown line; the history's length for the new line.
    at: usize,
    /// The new line while a line of the history is shown.
    draft: Vec<char>,
}

/// Result of a key press.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// The line is still being edited.
    Going,
    /// Enter: the finished line.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D on an empty line.
    End,
}

const CTRL_D: char = '\u{4}';
const CTRL_K: char = '\u{b}';
const CTRL_U: char = '\u{15}';
const CTRL_W: char = '\u{17}';

impl Editor {
    /// Applies a key, with the key bindings of a shell.
    pub(crate) fn press(&mut self, key: &Key) -> Pressed {
        match key {
            Key::Enter => return Pressed::Line(self.finish()),
            Key::CtrlC => {
                self.take();
                return Pressed::Interrupted;
            }
            Key::Char(CTRL_D) if self.line.is_empty() => return Pressed::End,
            Key::Char(CTRL_D) | Key::Del => self.remove(self.cursor, self.cursor + 1),
            Key::Backspace => self.remove(self.cursor.saturating_sub(1), self.cursor),
            Key::Char(CTRL_U) => self.remove(0, self.cursor),
            Key::Char(CTRL_K) => self.remove(self.cursor, self.line.len()),
            Key::Char(CTRL_W) => self.remove(self.word_begin(), self.cursor),
            Key::ArrowLeft => self.cursor = self.cursor.saturating_sub(1),
            Key::ArrowRight => self.cursor = self.line.len().min(self.cursor + 1),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::ArrowUp => self.show(self.at.saturating_sub(1)),
            Key::ArrowDown => self.show(self.history.len().min(self.at + 1)),
            Key::Char(letter) if !letter.is_control() => {
                self.line.insert(self.cursor, *letter);
                self.cursor += 1;
            }
            _ => {}
        }
        Pressed::Going
    }

    /// Part of the line around the cursor that fits `width` columns, and the cursor's column in it.
    pub(crate) fn view(&self, width: usize) -> (String, usize) {
        let columns = |letters: &[char]| measure_text_width(&letters.iter().collect::<String>());
        let before = &self.line[..self.cursor];
        let fits = |&begin: &usize| columns(&before[begin..]) < width;
        let begin = (0..=self.cursor).find(fits).unwrap_or(self.cursor);
        let fits = |&end: &usize| columns(&self.line[begin..end]) <= width;
        let end = (self.cursor..=self.line.len()).take_while(fits).last().unwrap_or(self.cursor);
        (self.line[begin..end].iter().collect(), columns(&before[begin..]))
    }

    fn remove(&mut self, begin: usize, end: usize) {
        let end = end.min(self.line.len());
        self.line.drain(begin.min(end)..end);
        self.cursor = begin;
    }

    /// Start of the word before the cursor.
    fn word_begin(&self) -> usize {
        let before = &self.line[..self.cursor];
        let word_end = before.iter().rposition(|letter| *letter != ' ').map_or(0, |at| at + 1);
        before[..word_end].iter().rposition(|letter| *letter == ' ').map_or(0, |at| at + 1)
    }

    /// Shows a line of the history, or the new line after its end.
    fn show(&mut self, at: usize) {
        if self.at == self.history.len() {
            self.draft = std::mem::take(&mut self.line);
        }
        self.line = self.history.get(at).unwrap_or(&self.draft).clone();
        (self.at, self.cursor) = (at, self.line.len());
    }

    /// Finishes the line and adds it to the history, unless it is empty or equals the last one.
    fn finish(&mut self) -> String {
        let line = self.take();
        if !line.is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
        }
        self.at = self.history.len();
        line.into_iter().collect()
    }

    fn take(&mut self) -> Vec<char> {
        (self.at, self.cursor) = (self.history.len(), 0);
        std::mem::take(&mut self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(editor: &mut Editor, text: &str) {
        for letter in text.chars() {
            assert_eq!(editor.press(&Key::Char(letter)), Pressed::Going);
        }
    }

    fn press(editor: &mut Editor, keys: &[Key]) {
        for key in keys {
            assert_eq!(editor.press(key), Pressed::Going);
        }
    }

    fn enter(editor: &mut Editor) -> String {
        match editor.press(&Key::Enter) {
            Pressed::Line(line) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_edited_at_the_cursor() {
        use Key::{ArrowLeft, ArrowRight, Backspace, Char, Del, End, Home};
        let mut editor = Editor::default();
        type_in(&mut editor, "one twö three");
        press(&mut editor, &[Home, Del, Char('O'), End, Backspace, Backspace]);
        press(&mut editor, &[ArrowLeft, ArrowLeft, ArrowLeft, ArrowRight, Char('-')]);
        press(&mut editor, &[End, ArrowRight, Char('!'), Del, Home, ArrowLeft, Backspace]);
        assert_eq!(enter(&mut editor), "One twö t-hr!");
        type_in(&mut editor, "one twö  ");
        press(&mut editor, &[Char(CTRL_W)]);
        type_in(&mut editor, "x");
        press(&mut editor, &[ArrowLeft, Char(CTRL_U), Key::Tab, Char('\u{7}')]);
        assert_eq!(enter(&mut editor), "x");
        type_in(&mut editor, "ab");
        press(&mut editor, &[ArrowLeft, Char(CTRL_K)]);
        press(&mut editor, &[Home, Char(CTRL_D)]);
        assert_eq!(enter(&mut editor), "");
    }

    #[test]
    fn old_lines_come_back_and_the_new_one_is_kept() {
        use Key::{ArrowDown, ArrowUp};
        let mut editor = Editor::default();
        for line in ["first", "second", "second", ""] {
            type_in(&mut editor, line);
            assert_eq!(enter(&mut editor), line);
        }
        type_in(&mut editor, "new");
        press(&mut editor, &[ArrowUp, ArrowUp, ArrowUp]);
        assert_eq!(editor.view(80).0, "first");
        press(&mut editor, &[ArrowDown, ArrowDown, ArrowDown]);
        assert_eq!(editor.view(80).0, "new");
        press(&mut editor, &[ArrowUp, Key::Char('!')]);
        assert_eq!(enter(&mut editor), "second!");
        press(&mut editor, &[ArrowUp, ArrowUp]);
        assert_eq!(enter(&mut editor), "second");
    }

    #[test]
    fn ctrl_c_drops_the_line_and_ctrl_d_ends_an_empty_one() {
        let mut editor = Editor::default();
        type_in(&mut editor, "never mind");
        assert_eq!(editor.press(&Key::CtrlC), Pressed::Interrupted);
        assert_eq!(editor.press(&Key::Char(CTRL_D)), Pressed::End);
        assert_eq!(enter(&mut editor), "");
    }

    #[test]
    fn a_long_line_is_shown_around_the_cursor() {
        let mut editor = Editor::default();
        type_in(&mut editor, "abcdefgh");
        assert_eq!(editor.view(5), ("efgh".to_owned(), 4));
        press(&mut editor, &[Key::ArrowLeft, Key::ArrowLeft]);
        assert_eq!(editor.view(5), ("cdefg".to_owned(), 4));
        press(&mut editor, &[Key::Home]);
        assert_eq!(editor.view(5), ("abcde".to_owned(), 0));
        assert_eq!(editor.view(80), ("abcdefgh".to_owned(), 0));
        press(&mut editor, &[Key::Char('漢'), Key::Char('字')]);
        assert_eq!(editor.view(6), ("漢字ab".to_owned(), 4));
        assert_eq!(editor.view(0).1, 0);
    }
}
