//! All that a user sees: results on stdout, everything else on stderr.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// Where things are shown.
pub struct Screen {
    quiet: bool,
    json: bool,
    colour: bool,
}

/// Colours that carry meaning.
#[derive(Clone, Copy)]
pub enum Paint {
    /// A heading.
    Bold,
    /// Fine.
    Green,
    /// Wrong.
    Red,
    /// Not to be relied on.
    Yellow,
}

impl Screen {
    /// With `json`, stdout carries one JSON document and what would be said there goes to stderr.
    pub fn new(quiet: bool, json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { quiet, json, colour: !plain && io::stdout().is_terminal() }
    }

    /// A line of the result.
    ///
    /// # Errors
    /// Where stdout cannot be written to. A reader that has gone (`| head`) is no error: there is nobody to tell.
    pub fn line(&self, text: impl Display) -> Result<()> {
        match writeln!(io::stdout(), "{text}") {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::fault(format!("cannot write to stdout: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// The result as one JSON document.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        self.line(pretty(value)?)
    }

    /// Text that goes before a result: on stdout, or on stderr where stdout carries JSON.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn headline(&self, text: impl Display) -> Result<()> {
        if self.json {
            self.say(text);
            return Ok(());
        }
        self.line(text)
    }

    /// Something about how it goes; silent with `--quiet`.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Something that a user must know.
    pub fn warn(&self, text: impl Display) {
        // Where stderr is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The one place where errors are rendered.
    pub fn error(&self, failure: &Failure) {
        self.warn(format!("error: {}", failure.message));
    }

    /// Text in a colour, where stdout shows colours.
    pub fn paint(&self, paint: Paint, text: impl Display) -> String {
        let code = match paint {
            Paint::Bold => 1,
            Paint::Green => 32,
            Paint::Red => 31,
            Paint::Yellow => 33,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// A count of what is done, of a work whose length is not known; shown as a bar is.
    pub fn counter(&self) -> Progress<'_> {
        let drawn = !self.quiet && io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        Progress { bar, drawn, screen: self }
    }

    /// A bar of `length` steps: drawn on a terminal, replaced by plain lines elsewhere, absent with `--quiet`.
    pub fn progress(&self, length: u64, left: Left) -> Progress<'_> {
        let drawn = !self.quiet && io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = "{elapsed:>4} [{bar:30}] {percent:>3}% {left:>5} left  {wide_msg}";
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key("left", move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let left = match left {
                    Left::Estimated => state.eta(),
                    Left::Until(end) => end.saturating_sub(state.elapsed()),
                };
                let _ = write!(out, "{}", seconds(left));
            });
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, drawn, screen: self }
    }
}

/// How the remaining time is known.
#[derive(Clone, Copy)]
pub enum Left {
    /// From the steps that are done.
    Estimated,
    /// The work ends this long after its beginning.
    Until(Duration),
}

/// What is shown while something runs.
pub struct Progress<'a> {
    bar: ProgressBar,
    drawn: bool,
    screen: &'a Screen,
}

impl Progress<'_> {
    /// Moves the bar to a step, with what is being done.
    pub fn step(&self, position: u64, text: impl Display) {
        self.bar.set_position(position);
        if self.drawn {
            self.bar.set_message(text.to_string());
        }
    }

    /// A line that stays; above the bar where there is one.
    pub fn line(&self, text: impl Display) {
        if self.drawn {
            self.bar.println(text.to_string());
        } else {
            self.screen.say(text);
        }
    }

    /// A line for those who see no bar.
    pub fn plain(&self, text: impl Display) {
        if !self.drawn {
            self.screen.say(text);
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// A value as indented JSON.
///
/// # Errors
/// Where it has no JSON form.
pub fn pretty(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::fault(format!("cannot write JSON: {e}")))
}

/// Rows in aligned columns: `align` has an `l` or an `r` for each.
pub fn columns(header: &[&str], rows: &[Vec<String>], align: &str) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |c: usize| all().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (c, ((cell, width), align)) in row.iter().zip(&widths).zip(align.chars()).enumerate() {
            let gap = if c == 0 { "" } else { "  " };
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let cell = if align == 'l' { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
            text.push_str(gap);
            text.push_str(&cell);
        }
        text.trim_end().to_owned()
    };
    all().map(line).collect()
}

/// A duration in ns to three digits.
pub fn nanoseconds(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A duration as people say it.
fn seconds(time: Duration) -> String {
    let s = time.as_secs();
    if s < 100 { format!("{s} s") } else { format!("{} min", s.div_ceil(60)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (ns, text) in [(7.0, "7.00 ns"), (1234.0, "1.23 µs"), (45_600_000.0, "45.6 ms"), (2.5e11, "250 s")] {
            assert_eq!(nanoseconds(ns), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "5".to_owned()]];
        assert_eq!(columns(&["name", "n"], &rows, "lr"), ["name   n", "a     10", "long   5"]);
    }
}
