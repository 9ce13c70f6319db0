//! What boards take of flash and RAM.

use super::board::{BOARDS, Board, build};
use crate::{prelude::*, row::Row};

/// Bytes of flash and RAM that a gateway with the usual tables has to fit into.
const MEMORY_LIMIT: u64 = 128 << 10;

/// What the boards take, for `make bench`.
pub(crate) fn rows() -> Result<Vec<Row>> {
    let rows = memories()?.into_iter().flat_map(|(board, Memory { flash, ram })| {
        let limit = if board.is_limited() { format!("at most {MEMORY_LIMIT}") } else { String::new() };
        let place = format!("{}{}", board.name, if board.runs { "" } else { ", built only" });
        [("gateway, flash", flash), ("gateway, RAM without the stack", ram)]
            .map(|(what, bytes)| Row::new(what, format!("{bytes} bytes"), &place).beside(&limit))
    });
    Ok(rows.collect())
}

/// What every board takes; an error if it is too much.
fn memories() -> Result<Vec<(&'static Board, Memory)>> {
    let memory = |board: &'static Board| {
        progress!("building {}", board.name);
        let memory = Memory::of(&build(board)?.join(board.name))?;
        let fits = memory.flash.max(memory.ram) <= MEMORY_LIMIT;
        ensure!(fits || !board.is_limited(), "{}: {memory:?} are more than {MEMORY_LIMIT} bytes", board.name);
        Ok((board, memory))
    };
    BOARDS.iter().map(memory).collect()
}

/// The same as a table that was printed.
pub(super) fn table() -> Result<String> {
    let head = "| board | flash, bytes | RAM without the stack, bytes | run here |\n|---|---:|---:|---|\n"
        .to_owned();
    let table = memories()?.iter().fold(head, |table, (board, Memory { flash, ram })| {
        let runs = if board.runs { "in QEMU" } else { "no: built only" };
        table + &format!("| {} | {flash} | {ram} | {runs} |\n", board.name)
    });
    print!("{table}");
    Ok(table)
}

/// What an image takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    flash: u64,
    ram: u64,
}

impl Memory {
    fn of(image: &Path) -> Result<Self> {
        let memory = Self::read(&cmd!("readelf --segments --wide {image}").env("LC_ALL", "C").read()?)?;
        ensure!(memory.flash > 0, "{} loads nothing", image.display());
        Ok(memory)
    }

    /// Of readelf's lines `LOAD OFFSET VIRTUAL PHYSICAL IN-FILE IN-MEMORY FLAGS ALIGNMENT`: what is loaded lies in flash,
    /// what is written lies in RAM.
    fn read(segments: &str) -> Result<Self> {
        let mut memory = Self::default();
        for line in segments.lines().filter_map(|line| line.trim().strip_prefix("LOAD ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, _, _, file, in_memory, flags @ ..] = &words[..] else { bail!("readelf says {line:?}") };
            let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
            memory.flash += number(file)?;
            if flags.iter().any(|flags| flags.contains('W')) {
                memory.ram += number(in_memory)?;
            }
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_flash_and_what_is_written_is_ram() {
        let text = "\
  Type           Offset   VirtAddr   PhysAddr   FileSiz MemSiz  Flg Align
  LOAD           0x001000 0x00000000 0x00000000 0x00010 0x00010 R E 0x1000
  LOAD           0x002000 0x20000000 0x00000010 0x00004 0x00100 RW  0x1000
  GNU_STACK      0x000000 0x00000000 0x00000000 0x00000 0x00000 RW  0
";
        assert_eq!(Memory::read(text).unwrap(), Memory { flash: 0x14, ram: 0x100 });
        assert!(Memory::read("  LOAD 0x1000").is_err());
    }
}
