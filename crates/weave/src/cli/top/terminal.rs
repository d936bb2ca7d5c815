//! The terminal as a full screen. It is put back however the program ends, but by SIGKILL.

use std::io::{self, Stdout, stdout};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::screen::Screen;

/// While it lives, the terminal shows a screen and gives each key at once.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it does not obey; it is as before then.
    pub(super) fn begin() -> io::Result<Self> {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            put_back();
            print(info);
        }));
        let inner = ratatui::Terminal::new(CrosstermBackend::new(stdout()))?;
        let terminal = Self { inner };
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        Ok(terminal)
    }

    /// Shows this.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, screen: &Screen) -> io::Result<()> {
        self.inner.draw(|frame| screen.draw(frame)).map(|_| ())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_back();
    }
}

fn put_back() {
    // there is nobody left to tell
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}
