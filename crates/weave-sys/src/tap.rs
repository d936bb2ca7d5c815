//! TAP devices: the port of a bridge through which frames come to the router and leave it.
//!
//! The plain path of today: one frame per system call, no virtio header. The batch shapes are
//! those of the offload path, so that only this module changes when it comes.
//!
//! All methods take `&self`: the TX thread reads, and the RX thread and the TX thread's own ARP
//! answers write, on one shared [`Tap`]. The kernel takes each frame whole.

mod batch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

use tun_tap::{Iface, Mode};

pub use batch::{FrameBatch, VNET_HDR_ROOM};

use crate::{Error, NetNs, Result, linkname};

/// `_IOW('T', 203, int)`: keep the device when its last descriptor closes.
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;

/// `_IOR('T', 210, unsigned int)`: of which device is this a descriptor?
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;

/// The device that gives TAPs.
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";

/// An open TAP device. Non-blocking, closed on exec; the device goes away with it.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
}

/// What became of a batch of frames written to a TAP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Frames the kernel took.
    pub sent: usize,
    /// Frames it refused: the device is down, or out of memory.
    pub dropped: usize,
}

impl Tap {
    /// Opens (and so makes) the TAP `name` in the calling thread's network namespace. It is down
    /// and on no bridge; see [`bridge::ensure_network`](crate::bridge::ensure_network).
    ///
    /// # Errors
    /// [`Error::TapBusy`] when another process has it open, [`Error::NoTunDevice`] without
    /// /dev/net/tun, otherwise the kernel's refusal.
    pub fn open(name: &str) -> Result<Self> {
        linkname::validate(name)?;
        let iface = Iface::without_packet_info(name, Mode::Tap)
            .map_err(|source| open_error(name, source))?;
        let name = iface.name().to_owned();
        // SAFETY: into_raw_fd gives the descriptor up, so we are its only owner.
        let fd = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
        let tap = Self { fd, name };
        tap.set_flags()
            .map_err(|source| Error::os("set up TAP", &*tap.name, source))?;
        Ok(tap)
    }

    /// As [`open`](Self::open), in another network namespace.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(netns: &NetNs, name: &str) -> Result<Self> {
        netns.run_in(|| Self::open(name))?
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps the device (with its place on the bridge) when this handle closes, or no longer.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_persistent(&self, keep: bool) -> Result<()> {
        // SAFETY: the request takes its argument by value.
        let done = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                TUNSETPERSIST,
                libc::c_ulong::from(keep),
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(Error::last_os("set persistence of TAP", &*self.name)),
        }
    }

    /// Whether the device is still there: somebody may have deleted it, and made another of the
    /// same name.
    pub fn is_alive(&self) -> bool {
        // SAFETY: ifreq is plain old data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes into the request, which lives across the call.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNGETIFF, &raw mut request) == 0 }
    }

    /// Clears `batch` and fills it with the frames that are waiting; gives their number. Stops
    /// at an empty queue or a full batch, without blocking.
    ///
    /// A frame longer than the batch's limit arrives cut; the device's MTU keeps that from
    /// happening.
    ///
    /// # Errors
    /// When the device is gone or down; frames read before the error stay in the batch and the
    /// error comes with the next call.
    pub fn recv_batch(&self, batch: &mut FrameBatch) -> io::Result<usize> {
        batch.clear();
        while let Some(room) = batch.room() {
            match self.read(room) {
                Ok(len) => batch.commit(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) if !batch.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch.len())
    }

    /// Writes every frame of `batch`, in order. A refused frame does not stop the others.
    pub fn send_batch(&self, batch: &FrameBatch) -> Written {
        let mut written = Written::default();
        for frame in batch.frames() {
            match self.send(frame) {
                Ok(()) => written.sent += 1,
                Err(_) => written.dropped += 1,
            }
        }
        written
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// When the device is down (EIO) or the frame is too short to be one (EINVAL).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: frame is readable for its whole length during the call.
            let written =
                unsafe { libc::write(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len()) };
            if written >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        // SAFETY: room is writable for its whole length during the call.
        let len = unsafe { libc::read(self.fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// The tun-tap crate sets neither flag.
    fn set_flags(&self) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: these commands take and give plain integers.
        let done = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            flags >= 0
                && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) == 0
                && libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0
        };
        if done {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn open_error(name: &str, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EBUSY) => Error::TapBusy {
            name: name.to_owned(),
        },
        Some(libc::ENOENT | libc::ENODEV) => Error::NoTunDevice { source },
        Some(_) | None if !Path::new(TUN_DEVICE).exists() => Error::NoTunDevice { source },
        Some(_) | None => Error::os("open TAP", name, source),
    }
}
