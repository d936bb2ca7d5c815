//! TAP devices: the port of a bridge through which frames come to the router and leave it.
//!
//! With offloads ([`Mode::Offload`], IFF_VNET_HDR and TUNSETOFFLOAD: tun.rst of the kernel) one read
//! may give a TCP or UDP super-frame of 64 KiB, and one write take one; each frame has a virtio
//! header. Where the kernel does not have them, the plain path gives and takes finished frames.
//!
//! All methods take `&self`: one thread reads, and another's deliveries and its own ARP
//! answers write, on one shared [`Tap`]. The kernel takes each frame whole.

mod batch;

use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tun_tap::Iface;

pub use batch::{FrameBatch, VNET_HDR_LEN, VNET_HDR_ROOM};

use crate::{Error, NetNs, Result, linkname};

/// `_IOW('T', 203, int)`: keep the device when its last descriptor closes.
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;

/// `_IOR('T', 210, unsigned int)`: of which device is this a descriptor?
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;

/// `_IOW('T', 202, int)`: make an interface, or attach to one.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// `_IOW('T', 208, unsigned int)`: what may be left undone in frames that are read.
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;

/// TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN.
const TCP_OFFLOADS: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08;

/// TUN_F_USO4, TUN_F_USO6: since Linux 6.2, and only together.
const UDP_OFFLOADS: libc::c_ulong = 0x20 | 0x40;

/// The device that gives TAPs.
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";

/// An open TAP device. Non-blocking, closed on exec; the device goes away with it.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
    mode: Mode,
}

/// What a TAP leaves to do in the frames that it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Checksums, and TCP super-frames to be cut.
    Offload {
        /// UDP super-frames too.
        udp: bool,
    },
    /// Nothing.
    Plain {
        /// Why it has no offloads.
        why: String,
    },
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
        match Self::open_offload(name) {
            Ok(tap) => Ok(tap),
            // it would be taken for the plain path, too
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(open_error(name, error)),
            Err(error) => Self::open_plain(name, error.to_string()),
        }
    }

    /// As [`open`](Self::open), without offloads, for the reason given.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_plain(name: &str, why: String) -> Result<Self> {
        linkname::validate(name)?;
        let iface = Iface::without_packet_info(name, tun_tap::Mode::Tap)
            .map_err(|source| open_error(name, source))?;
        let name = iface.name().to_owned();
        // SAFETY: into_raw_fd gives the descriptor up, so we are its only owner.
        let fd = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
        let mode = Mode::Plain { why };
        let tap = Self { fd, name, mode };
        tap.set_flags()
            .map_err(|source| Error::os("set up TAP", &*tap.name, source))?;
        // a device that is kept still has the offloads of its last user; kernels without any refuse
        let _ = set_offloads(&tap.fd, 0);
        Ok(tap)
    }

    fn open_offload(name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let fd = OwnedFd::from(options.open(TUN_DEVICE)?);
        // SAFETY: ifreq is plain old data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
        // SAFETY: the kernel reads and writes the request, which lives across the call.
        if unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let udp = set_offloads(&fd, TCP_OFFLOADS | UDP_OFFLOADS).is_ok();
        if !udp {
            set_offloads(&fd, TCP_OFFLOADS)?;
        }
        Ok(Self {
            fd,
            name: name.to_owned(),
            mode: Mode::Offload { udp },
        })
    }

    /// What it leaves to do in frames.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Whether its frames have virtio headers.
    pub fn has_headers(&self) -> bool {
        matches!(self.mode, Mode::Offload { .. })
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
        let header_len = if self.has_headers() { VNET_HDR_LEN } else { 0 };
        loop {
            let room = match header_len {
                0 => batch.room(),
                _ => batch.room_with_header(),
            };
            let Some(room) = room else { break };
            match self.read(room) {
                Ok(len) => batch.commit(len.saturating_sub(header_len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) if !batch.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch.len())
    }

    /// Writes every frame of `batch`, in order, as unfinished as it is. A refused frame does not
    /// stop the others.
    pub fn send_batch(&self, batch: &FrameBatch) -> Written {
        let mut written = Written::default();
        for (header, frame) in batch.with_headers() {
            match self.send_with_header(header, frame) {
                Ok(()) => written.sent += 1,
                Err(_) => written.dropped += 1,
            }
        }
        written
    }

    /// Writes one finished frame.
    ///
    /// # Errors
    /// When the device is down (EIO) or the frame is too short to be one (EINVAL).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_with_header(&[0; VNET_HDR_LEN], frame)
    }

    /// Writes one frame in parts, the first of which is its virtio header; only to a TAP that
    /// [has them](Self::has_headers).
    ///
    /// # Errors
    /// As [`send`](Self::send), and when header and frame contradict each other (EINVAL).
    pub fn send_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        match self.has_headers() {
            true => self.write(parts),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn send_with_header(&self, header: &[u8; VNET_HDR_LEN], frame: &[u8]) -> io::Result<()> {
        match self.has_headers() {
            true => self.write(&[IoSlice::new(header), IoSlice::new(frame)]),
            false => self.write(&[IoSlice::new(frame)]),
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        loop {
            let count = libc::c_int::try_from(parts.len()).unwrap_or(libc::c_int::MAX);
            // SAFETY: IoSlice is an iovec on Unix; its parts are readable during the call.
            let written =
                unsafe { libc::writev(self.fd.as_raw_fd(), parts.as_ptr().cast(), count) };
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

fn set_offloads(fd: &OwnedFd, offloads: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the request takes its argument by value.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, offloads) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
