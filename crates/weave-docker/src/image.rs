//! The image of ourselves: one static binary, imported through Docker's API, no registry.
//!
//! The tag carries a hash of the binary, so the same binary is imported once and another one
//! never hides behind an old tag.

use std::collections::HashMap;
use std::io;

use blake2::digest::consts::U6;
use blake2::{Blake2b, Digest};
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::client::DockerClient;
use crate::error::Error;

/// Repository of the image.
pub const REPOSITORY: &str = "weave";
/// Where the binary lies in the image.
pub const BINARY: &str = "/weave";
/// Label that tells our images from another `weave`.
const LABEL: &str = "weave.image";

/// Directories that the router or dockerd mount things on.
const DIRECTORIES: [&str; 9] = [
    "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "var/lib",
];
/// Raised when the layout of the image changes, so that it is imported anew.
const LAYOUT: u8 = 1;

impl DockerClient {
    /// Imports the image of `binary` unless it is there; answers its reference, `weave:TAG`.
    ///
    /// # Errors
    /// [`Error::NotStatic`] or [`Error::NotElf`] before anything is sent, else whatever Docker
    /// refuses with.
    pub async fn ensure_image(&self, binary: &[u8], version: &str) -> Result<String, Error> {
        check_static(binary)?;
        let tag = tag(binary, version);
        let reference = reference(binary, version);
        match self
            .read("look for our image", self.api().inspect_image(&reference))
            .await
        {
            Ok(_) => return Ok(reference),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let root = rootfs(binary).map_err(|source| Error::Io {
            what: "pack",
            path: BINARY.into(),
            source,
        })?;
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag),
            changes: vec![format!("LABEL {LABEL}={version}")],
            ..CreateImageOptions::default()
        };
        let body = bollard::body_full(Bytes::from(root));
        let progress = self.api().create_image(Some(options), Some(body), None);
        self.change("import our image", progress.try_collect::<Vec<_>>())
            .await?;
        tracing::info!(image = reference, "imported the image");
        Ok(reference)
    }

    /// Removes all images of ours but `keep`. Those in use stay.
    ///
    /// # Errors
    /// Any of [`Error`] that listing images can cause.
    pub async fn remove_images(&self, keep: Option<&str>) -> Result<(), Error> {
        let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
        let options = ListImagesOptions {
            filters: Some(filters),
            ..ListImagesOptions::default()
        };
        let images = self
            .read("list our images", self.api().list_images(Some(options)))
            .await?;
        for reference in images.into_iter().flat_map(|image| image.repo_tags) {
            if Some(reference.as_str()) == keep {
                continue;
            }
            let call = self
                .api()
                .remove_image(&reference, None::<RemoveImageOptions>, None);
            if let Err(error) = self.change("remove an image", call).await {
                tracing::debug!(reference, %error, "an image of ours stays");
            }
        }
        Ok(())
    }
}

/// Checks that a program needs nothing but the kernel: an ELF file without `PT_INTERP`.
///
/// # Errors
/// [`Error::NotStatic`] names the loader it wants; [`Error::NotElf`] what cannot be read.
pub fn check_static(binary: &[u8]) -> Result<(), Error> {
    match elf_interpreter(binary).map_err(|reason| Error::NotElf { reason })? {
        None => Ok(()),
        Some(interpreter) => Err(Error::NotStatic { interpreter }),
    }
}

/// What the image of a binary is called.
pub fn reference(binary: &[u8], version: &str) -> String {
    format!("{REPOSITORY}:{}", tag(binary, version))
}

/// The tag of a binary: its version and six bytes of its hash.
fn tag(binary: &[u8], version: &str) -> String {
    let mut hash = Blake2b::<U6>::new();
    hash.update([LAYOUT]);
    hash.update(binary);
    let hash: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let legal = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let version: String = version.chars().take(60).map(legal).collect();
    format!("{}-{hash}", version.trim_start_matches(['.', '-']))
        .trim_start_matches('-')
        .to_owned()
}

/// The file system of the image as a tar archive; the same binary gives the same bytes.
fn rootfs(binary: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + (64 << 10)));
    for directory in DIRECTORIES {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        let mut header = header(tar::EntryType::Directory, mode, 0);
        archive.append_data(&mut header, format!("{directory}/"), io::empty())?;
    }
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    archive.append_link(&mut link, "var/run", "../run")?;
    let mut program = header(tar::EntryType::Regular, 0o755, binary.len() as u64);
    archive.append_data(&mut program, BINARY.trim_start_matches('/'), binary)?;
    archive.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The loader that an ELF file names in its `PT_INTERP` header.
fn elf_interpreter(file: &[u8]) -> Result<Option<String>, &'static str> {
    let elf = Elf::new(file)?;
    for index in 0..elf.headers {
        let at = elf.table + index * elf.entry;
        if elf.number(at, 4)? != 3 {
            continue;
        }
        let (offset, size) = if elf.wide {
            (at + 8, at + 32)
        } else {
            (at + 4, at + 16)
        };
        let start = elf.word(offset)?;
        let end = start
            .checked_add(elf.word(size)?)
            .ok_or("a segment leaves the file")?;
        let text = file.get(start..end).ok_or("a segment leaves the file")?;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        return Ok(Some(String::from_utf8_lossy(text).into_owned()));
    }
    Ok(None)
}

/// As much of an ELF header as is needed to walk the program headers.
struct Elf<'a> {
    file: &'a [u8],
    wide: bool,
    big_endian: bool,
    table: usize,
    entry: usize,
    headers: usize,
}

impl<'a> Elf<'a> {
    fn new(file: &'a [u8]) -> Result<Self, &'static str> {
        let Some(&[0x7f, b'E', b'L', b'F', class, order, ..]) = file.get(..16) else {
            return Err("it has no ELF magic");
        };
        if !matches!((class, order), (1 | 2, 1 | 2)) {
            return Err("unknown word size or byte order");
        }
        let mut elf = Elf {
            file,
            wide: class == 2,
            big_endian: order == 2,
            table: 0,
            entry: 0,
            headers: 0,
        };
        let (table, entry, headers) = if elf.wide { (32, 54, 56) } else { (28, 42, 44) };
        elf.table = elf.word(table)?;
        elf.entry = elf.number(entry, 2)?;
        elf.headers = elf.number(headers, 2)?;
        let end = elf
            .entry
            .checked_mul(elf.headers)
            .and_then(|size| size.checked_add(elf.table));
        if end.is_none_or(|end| end > file.len()) {
            return Err("its program headers leave the file");
        }
        Ok(elf)
    }

    fn word(&self, at: usize) -> Result<usize, &'static str> {
        self.number(at, if self.wide { 8 } else { 4 })
    }

    fn number(&self, at: usize, size: usize) -> Result<usize, &'static str> {
        let end = at.checked_add(size).ok_or("it is cut short")?;
        let bytes = self.file.get(at..end).ok_or("it is cut short")?;
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = if self.big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        };
        usize::try_from(value).map_err(|_| "a number is too large")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// A 64-bit little-endian ELF file with the given program headers: type and contents.
    fn elf64(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let table = 64;
        let mut contents = table + 56 * segments.len();
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = u8::try_from(segments.len()).unwrap();
        for (kind, bytes) in segments {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&(contents as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            file.extend(header);
            contents += bytes.len();
        }
        for (_, bytes) in segments {
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let file = elf64(&[
            (6, b"x"),
            (1, b"code"),
            (3, b"/lib64/ld-linux-x86-64.so.2\0"),
        ]);
        let error = check_static(&file).unwrap_err();
        assert!(
            error.to_string().contains("/lib64/ld-linux-x86-64.so.2"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("cargo build --release"));
    }

    #[test]
    fn a_program_without_an_interpreter_is_static() {
        assert!(check_static(&elf64(&[(1, b"code"), (2, b"dynamic")])).is_ok());
        assert!(check_static(&elf64(&[])).is_ok());
    }

    #[test]
    fn a_32_bit_big_endian_program_is_read_too() {
        let mut file = vec![0; 52];
        file[..6].copy_from_slice(b"\x7fELF\x01\x02");
        file[31] = 52;
        file[43] = 32;
        file[45] = 1;
        let mut header = [0; 32];
        header[3] = 3;
        header[7] = 84;
        header[19] = 7;
        file.extend(header);
        file.extend(b"/lib/ld");
        let found = elf_interpreter(&file);
        assert_eq!(found, Ok(Some("/lib/ld".to_owned())));
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        for file in [&b""[..], b"#!/bin/sh\nexec weave\n", b"\x7fELF", &[0; 64]] {
            assert!(matches!(check_static(file), Err(Error::NotElf { .. })));
        }
        let whole = elf64(&[(3, b"/lib/ld.so")]);
        for length in 0..whole.len() {
            assert!(check_static(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn the_running_test_program_can_be_read() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(elf_interpreter(&file).is_ok());
    }

    #[test]
    fn the_tag_follows_version_and_content() {
        let one = tag(b"one", "0.1.0");
        assert_eq!(one, tag(b"one", "0.1.0"));
        assert_ne!(one, tag(b"two", "0.1.0"));
        assert!(one.starts_with("0.1.0-") && one.len() == 18, "{one}");
        assert!(tag(b"one", "0.1.0+git abc").starts_with("0.1.0-git-abc-"));
        assert_eq!(tag(b"one", "").len(), 12);
    }

    #[test]
    fn the_root_file_system_holds_the_program_and_mount_points() {
        let packed = rootfs(b"program").unwrap();
        assert_eq!(packed, rootfs(b"program").unwrap());
        let mut archive = tar::Archive::new(&packed[..]);
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            if path == "weave" {
                assert_eq!(entry.header().mode().unwrap(), 0o755);
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, b"program");
            }
            paths.push(path);
        }
        for path in ["weave", "run/", "proc/", "var/run", "var/lib/"] {
            assert!(
                paths.iter().any(|found| found == path),
                "{path} in {paths:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_elf_reader(mut file in prop::collection::vec(any::<u8>(), 0..300), wide in 0..4u8, order in 0..4u8) {
            let _ = elf_interpreter(&file);
            if file.len() >= 6 {
                file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', wide, order]);
                let _ = elf_interpreter(&file);
            }
        }
    }
}
