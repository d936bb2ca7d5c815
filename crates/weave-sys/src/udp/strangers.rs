//! A second socket on the port of the underlay, for datagrams of strangers.
//!
//! Both are in one SO_REUSEPORT group (socket(7)), in which a classic BPF program chooses by the
//! source address: known ones go to the first socket, others to the second, which has a small
//! buffer. So a flood fills that, and not the one in which members' datagrams wait. Where the
//! kernel does not have it, all arrives at the first socket. The port stays ours: the first socket
//! was bound without SO_REUSEPORT, which fails where another program has the port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::Socket;

use super::{
    Discovery, Family, addr, any_address, discover_mtu, join_datagrams, new_socket, set_option,
};

/// Bytes that may wait of strangers: some hundred datagrams.
const BUFFER: usize = 128 << 10;
/// Addresses that are told apart; each costs every datagram a few instructions.
const MOST_KNOWN: usize = 400;
/// What the program answers: the place of the socket in the group.
const MEMBERS: u32 = 0;
const STRANGERS: u32 = 1;

/// Where loads relative to the IP header begin.
const NETWORK: u32 = libc::SKF_NET_OFF.cast_unsigned();
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;

/// Opens the second socket beside `first`, which is bound to `port`. All datagrams go to the
/// first until [`set_known`].
pub(super) fn open(first: &Socket, family: Family, port: u16, joins: bool) -> io::Result<Socket> {
    set_option(first.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let second = open_second(first, family, port, joins);
    if second.is_err() {
        let _ = set_option(first.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 0);
    }
    second
}

fn open_second(first: &Socket, family: Family, port: u16, joins: bool) -> io::Result<Socket> {
    let second = new_socket(family)?;
    second.set_recv_buffer_size(BUFFER)?;
    if joins {
        // the kernel asks either socket whether it may join
        join_datagrams(&second);
    }
    discover_mtu(&second, family, Discovery::Off)?;
    set_option(second.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    second.bind(&SocketAddr::new(any_address(family), port).into())?;
    attach(first, &[answer(MEMBERS)])?;
    Ok(second)
}

/// Lets datagrams of other addresses than these go to the second socket; of none, if there are
/// more of these than can be told apart.
pub(super) fn set_known(first: &Socket, known: &[IpAddr]) -> io::Result<()> {
    let program = if known.len() > MOST_KNOWN {
        vec![answer(MEMBERS)]
    } else {
        program(known)
    };
    attach(first, &program)
}

/// Jumps of classic BPF are short, so each comparison is followed by its own answer.
fn program(known: &[IpAddr]) -> Vec<libc::sock_filter> {
    let mut v4 = vec![statement(LOAD_WORD, NETWORK.wrapping_add(12))];
    let mut v6 = Vec::new();
    for ip in known {
        match ip.to_canonical() {
            IpAddr::V4(ip) => v4.extend([unless_equal(ip.to_bits(), 1), answer(MEMBERS)]),
            IpAddr::V6(ip) => {
                let places = [(8, 7), (12, 5), (16, 3), (20, 1)];
                for ((offset, skip), word) in places.into_iter().zip(ip.octets().as_chunks().0) {
                    v6.push(statement(LOAD_WORD, NETWORK.wrapping_add(offset)));
                    v6.push(unless_equal(u32::from_be_bytes(*word), skip));
                }
                v6.push(answer(MEMBERS));
            }
        }
    }
    v4.push(answer(STRANGERS));
    v6.push(answer(STRANGERS));
    let past_v4 = u32::try_from(v4.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        statement(LOAD_BYTE, NETWORK),
        statement(SHIFT_RIGHT, 4),
        unless_equal(6, 1),
        statement(JUMP, past_v4),
    ];
    program.extend(v4);
    program.extend(v6);
    program
}

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    instruction(code, 0, k)
}

/// Skips so many instructions unless what was loaded is this.
const fn unless_equal(value: u32, skip: u8) -> libc::sock_filter {
    instruction(JUMP_IF_EQUAL, skip, value)
}

const fn answer(socket: u32) -> libc::sock_filter {
    instruction(ANSWER, 0, socket)
}

/// All codes are below 256.
const fn instruction(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    let [low, high, _, _] = code.to_le_bytes();
    libc::sock_filter {
        code: u16::from_le_bytes([low, high]),
        jt: 0,
        jf,
        k,
    }
}

fn attach(socket: &Socket, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: program and what it points to live across the call, which only reads them.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            addr::len_of::<libc::sock_fprog>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
