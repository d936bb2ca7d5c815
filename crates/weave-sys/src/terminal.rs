//! The terminal: what is typed can be kept off the screen.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;

use crate::{Error, Result};

/// While it lives, the terminal on standard input does not show what is typed.
pub struct Hidden {
    before: libc::termios,
}

impl Hidden {
    /// Stops showing.
    ///
    /// # Errors
    /// When standard input is no terminal, or it does not obey.
    pub fn begin() -> Result<Self> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: the kernel fills the struct, which outlives the call.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) } != 0 {
            return Err(last_error("ask"));
        }
        // SAFETY: the call succeeded, so that it is filled.
        let before = unsafe { before.assume_init() };
        let mut hidden = before;
        hidden.c_lflag = (hidden.c_lflag & !libc::ECHO) | libc::ECHONL;
        set(&hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // there is nobody left to tell
        let _ = set(&self.before);
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

fn set(attributes: &libc::termios) -> Result<()> {
    // SAFETY: the kernel only reads the struct, which outlives the call.
    if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, attributes) } != 0 {
        return Err(last_error("set"));
    }
    Ok(())
}

fn last_error(operation: &'static str) -> Error {
    Error::os(operation, "the terminal", io::Error::last_os_error())
}
