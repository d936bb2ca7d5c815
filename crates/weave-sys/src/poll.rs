//! A small epoll wrapper for the data threads: level-triggered, with a waker.
//!
//! Descriptors may be added and removed from any thread while another waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Result};

/// Marks the waker among the ready descriptors.
const WAKER: u64 = u64::MAX;

/// Most descriptors reported by one wait; the rest come with the next.
const MAX_EVENTS: usize = 64;

/// Waits until one of several descriptors can be read.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    event: Arc<OwnedFd>,
}

/// Ends a wait of its [`Poller`] from another thread.
#[derive(Debug, Clone)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

/// What a wait came back with.
#[derive(Debug, Default)]
pub struct Ready {
    tokens: Vec<u64>,
    woken: bool,
}

impl Poller {
    /// A poller that watches nothing but its waker.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers involved; the result is checked before use.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let epoll = owned(epoll, "an epoll descriptor")?;
        // SAFETY: as above.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let event = Arc::new(owned(event, "an eventfd")?);
        let poller = Self { epoll, event };
        poller.control(libc::EPOLL_CTL_ADD, &*poller.event, WAKER, "add")?;
        Ok(poller)
    }

    /// A handle that ends [`wait`](Self::wait) from another thread.
    pub fn waker(&self) -> Waker {
        Waker {
            event: Arc::clone(&self.event),
        }
    }

    /// Reports `token` whenever `fd` can be read, until it is removed or closed.
    ///
    /// # Errors
    /// When it is watched already or cannot be polled. `u64::MAX` is not a token.
    pub fn add(&self, fd: &impl AsFd, token: u64) -> Result<()> {
        if token == WAKER {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(Error::os(
                "watch",
                "a descriptor with the waker's token",
                source,
            ));
        }
        self.control(libc::EPOLL_CTL_ADD, fd, token, "watch")
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn remove(&self, fd: &impl AsFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, "stop watching")
    }

    /// Waits until something can be read, the waker is used, or the time is up (`None`: forever).
    ///
    /// An interrupted wait comes back with nothing ready.
    ///
    /// # Errors
    /// Only when the kernel refuses the wait itself.
    pub fn wait(&self, ready: &mut Ready, timeout: Option<Duration>) -> Result<()> {
        ready.tokens.clear();
        ready.woken = false;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS];
        let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: events is a live array of at least the given length.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                capacity,
                timeout.map_or(-1, whole_millis),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return Ok(());
            }
            return Err(Error::os("wait for", "descriptors", error));
        };
        for event in events.iter().take(count) {
            if event.u64 == WAKER {
                ready.woken = true;
                self.drain_waker();
            } else {
                ready.tokens.push(event.u64);
            }
        }
        Ok(())
    }

    fn drain_waker(&self) {
        let mut count = 0_u64;
        // SAFETY: count is eight writable bytes, as an eventfd wants. It does not block; a
        // failed read only means that somebody drained it before.
        let _ = unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    fn control(
        &self,
        op: libc::c_int,
        fd: &impl AsFd,
        token: u64,
        what: &'static str,
    ) -> Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN.cast_unsigned(),
            u64: token,
        };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: event lives across the call; the kernel copies it.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(Error::last_os(what, format!("descriptor {fd}"))),
        }
    }
}

/// A poller can be watched by another: it can be read when one of its descriptors can.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Waker {
    /// Makes the current or the next wait return at once.
    pub fn wake(&self) {
        let one = 1_u64;
        // SAFETY: one is eight readable bytes. The only failure is a full counter, and then the
        // poller is awake anyway.
        let _ = unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

impl Ready {
    /// An empty one, reused by every wait.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens of the descriptors that can be read (or are broken: reading says how).
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }

    /// Whether the waker was used.
    pub fn woken(&self) -> bool {
        self.woken
    }
}

/// Rounded up, so that a wait never ends before its time.
fn whole_millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

fn owned(fd: libc::c_int, what: &'static str) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::last_os("create", what));
    }
    // SAFETY: the kernel just gave us this descriptor, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    #[test]
    fn a_waker_ends_a_wait_from_another_thread_and_is_reported_once() {
        let poller = Poller::new().unwrap();
        let waker = poller.waker();
        let thread = std::thread::spawn(move || waker.wake());
        let mut ready = Ready::new();
        poller
            .wait(&mut ready, Some(Duration::from_secs(10)))
            .unwrap();
        thread.join().unwrap();
        assert!(ready.woken() && ready.tokens().is_empty());
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(!ready.woken());
    }

    #[test]
    fn a_descriptor_is_reported_until_it_is_removed() {
        let poller = Poller::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        poller.add(&reader, 7).unwrap();
        writer.write_all(b"x").unwrap();
        let mut ready = Ready::new();
        poller
            .wait(&mut ready, Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(ready.tokens(), [7]);
        poller.remove(&reader).unwrap();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.tokens().is_empty());
    }

    #[test]
    fn a_timeout_below_a_millisecond_is_rounded_up() {
        let poller = Poller::new().unwrap();
        let start = Instant::now();
        poller
            .wait(&mut Ready::new(), Some(Duration::from_micros(300)))
            .unwrap();
        assert!(start.elapsed() >= Duration::from_micros(300));
    }
}
