//! `firmware-image BOARD ELF [BOOTLOADER]`: writes a board's image beside its ELF file, as the bytes of flash and as UF2. With a
//! bootloader, an ELF file too, the bytes are those to sign for an update, and the UF2 file has both.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use pkd_board::{
    Board, Chip,
    uf2::{self, Family},
};
use pkd_gateway::update::Identity;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firmware-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (board, elf, bootloader) = match arguments {
        [board, elf] => (board, elf, None),
        [board, elf, bootloader] => (board, elf, Some(Path::new(bootloader))),
        _ => bail!("usage: firmware-image BOARD ELF [BOOTLOADER]"),
    };
    let board = pkd_board::find(board).with_context(|| format!("unknown board \"{board}\""))?;
    let elf = Path::new(elf);
    println!("{}", elf.display());
    // QEMU loads the ELF file.
    if board.chip == Chip::Qemu {
        return Ok(());
    }
    let flash = board.flash;
    let read = |path: &Path| {
        let file = fs::read(path).with_context(|| path.display().to_string())?;
        image(&file, flash.base).with_context(|| path.display().to_string())
    };
    let image = read(elf)?;
    let first = flash.other_config.unwrap_or(flash.config).min(flash.config).min(flash.floor);
    let room = usize::try_from(first)?;
    ensure!(image.len() <= room, "the image has {} bytes: only {room} are free", image.len());
    let write = |ending: &str, bytes: &[u8]| {
        let path = elf.with_extension(ending);
        println!("{}", path.display());
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    if bootloader.is_some() {
        check_identity(&image, board).with_context(|| elf.display().to_string())?;
    }
    write("bin", slot(&image))?;
    let image = match bootloader {
        Some(bootloader) => with_bootloader(&read(bootloader)?, image)?,
        None => image,
    };
    if board.chip == Chip::Rp2350 {
        let file: Vec<u8> = uf2::blocks(Family::Image, board.flash.base, &image).flatten().collect();
        write("uf2", &file)?;
    }
    Ok(())
}

/// Checks that an image can be signed: that it contains the identity of its board.
fn check_identity(image: &[u8], board: &Board) -> Result<()> {
    let identity = Identity::find(image).context("it does not say which board it is for")?;
    ensure!(identity.board() == board.name, "it says that it is for {}", identity.board());
    Ok(())
}

/// The image without what is before its slot.
fn slot(image: &[u8]) -> &[u8] {
    let start = image.iter().position(|byte| *byte != 0xff);
    start.and_then(|start| image.get(start..)).unwrap_or_default()
}

/// Puts a bootloader before the slot of an image.
fn with_bootloader(bootloader: &[u8], mut image: Vec<u8>) -> Result<Vec<u8>> {
    let room = image.len() - slot(&image).len();
    let place = image.get_mut(..bootloader.len()).filter(|_| bootloader.len() <= room);
    let place =
        place.with_context(|| format!("the bootloader has {} bytes: {room} are free", bootloader.len()))?;
    place.copy_from_slice(bootloader);
    Ok(image)
}

/// What is loaded.
const LOAD: u32 = 1;

/// The bytes of flash from `base` on, out of a 32-bit ELF file (System V ABI, chapters 4 and 5). What no segment fills is 0xff.
fn image(elf: &[u8], base: u32) -> Result<Vec<u8>> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "not an ELF file of 32 bits, little endian");
    let headers = u32_at(28).zip(u16_at(42)).zip(u16_at(44)).context("it ends in its header")?;
    let ((offset, size), count) = headers;
    let mut image = Vec::new();
    for row in 0..usize::from(count) {
        let header = usize::try_from(offset)? + row * usize::from(size);
        let field = |word: usize| u32_at(header + 4 * word).context("it ends in a program header");
        let (kind, start, address, length) = (field(0)?, field(1)?, field(3)?, field(4)?);
        if kind != LOAD || length == 0 {
            continue;
        }
        let start = usize::try_from(start)?;
        let bytes = elf.get(start..start + usize::try_from(length)?).context("it ends in a segment")?;
        let at = address.checked_sub(base).with_context(|| format!("{address:#x} is below the flash"))?;
        let at = usize::try_from(at)?;
        ensure!(at < 0x0200_0000, "{address:#x} is not in the flash");
        let end = at + bytes.len();
        image.resize(image.len().max(end), 0xff);
        image[at..end].copy_from_slice(bytes);
    }
    ensure!(!image.is_empty(), "it loads nothing");
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 0x1000_0000;

    /// An ELF file with these segments: kind, physical address, bytes.
    fn elf(segments: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = [&b"\x7fELF\x01\x01\x01"[..], &[0; 45]].concat();
        file[28] = 52;
        file[42] = 32;
        file[44] = u8::try_from(segments.len()).unwrap();
        let mut start = 52 + 32 * segments.len();
        for (kind, address, bytes) in segments {
            let length = u32::try_from(bytes.len()).unwrap();
            let at = u32::try_from(start).unwrap();
            // The virtual address is that of RAM.
            for word in [*kind, at, 0x2000_0000, *address, length, length, 0, 0] {
                file.extend(word.to_le_bytes());
            }
            start += bytes.len();
        }
        file.extend(segments.iter().flat_map(|(_, _, bytes)| *bytes));
        file
    }

    #[test]
    fn segments_lie_at_their_physical_addresses_and_gaps_are_erased() {
        let file =
            elf(&[(LOAD, BASE + 6, b"data"), (LOAD, BASE, b"code"), (6, BASE + 20, b"note"), (LOAD, 0, b"")]);
        assert_eq!(image(&file, BASE).unwrap(), b"code\xff\xffdata");
    }

    #[test]
    fn a_bootloader_comes_before_the_slot_and_is_no_part_of_what_is_signed() {
        let image = image(&elf(&[(LOAD, BASE + 6, b"slot")]), BASE).unwrap();
        assert_eq!(slot(&image), b"slot");
        assert_eq!(with_bootloader(b"boot", image.clone()).unwrap(), b"boot\xff\xffslot");
        let error = with_bootloader(b"booting", image).unwrap_err().to_string();
        assert_eq!(error, "the bootloader has 7 bytes: 6 are free");
        assert!(with_bootloader(b"boot", b"at the start".to_vec()).is_err(), "an image without a slot");
    }

    #[test]
    fn an_image_that_is_not_for_its_board_is_found_before_anyone_signs_it() {
        let image = |name: &str| [b"codePKD image\0\0\0\x01\0\0\0", name.as_bytes(), &[0; 16]].concat();
        let check = |image: &[u8]| {
            let board = pkd_board::find("w5500-evb-pico2").unwrap();
            check_identity(image, board).map_err(|error| error.to_string())
        };
        assert_eq!(check(&image("w5500-evb-pico2")), Ok(()));
        assert_eq!(check(&image("riscv32-virt")), Err("it says that it is for riscv32-virt".to_owned()));
        assert_eq!(check(b"code"), Err("it does not say which board it is for".to_owned()));
    }

    #[test]
    fn a_file_that_is_cut_or_loads_elsewhere_is_an_error() {
        let file = elf(&[(LOAD, BASE, b"code")]);
        for length in 0..file.len() {
            assert!(image(&file[..length], BASE).is_err(), "{length}");
        }
        assert!(image(&elf(&[(LOAD, BASE - 1, b"code")]), BASE).is_err());
        assert!(image(&elf(&[(LOAD, BASE + 0x0200_0000, b"code")]), BASE).is_err());
        assert!(image(&elf(&[]), BASE).is_err());
    }
}
