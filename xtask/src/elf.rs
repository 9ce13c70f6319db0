//! What binutils say of an object: the sizes of sections, and how deep its calls go.

use std::collections::{BTreeMap, BTreeSet};

use crate::prelude::*;

/// Bytes of all sections whose name is `prefix` or begins with `prefix.`.
pub(crate) fn section_bytes(cross: &str, object: &Path, prefix: &str) -> Result<u64> {
    let mut total = 0;
    for line in cmd!("{cross}size -A {object}").read()?.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(bytes)) = (words.next(), words.next())
            && (name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')))
        {
            total += bytes.parse::<u64>().with_context(|| format!("size says {line:?}"))?;
        }
    }
    Ok(total)
}

/// The functions of an object, each with its own frame in bytes and those it refers to.
#[derive(Default)]
struct Calls {
    frames: BTreeMap<String, u64>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// The deepest stack, in bytes, of a call of one of `entries` within `object`, and the chain of calls that needs it;
/// without entries, of any function.
///
/// Read from the disassembly: what each function takes from the stack pointer, and every function that its code refers
/// to. Calls out of the object, and through pointers, are not followed.
pub(crate) fn stack_depth(cross: &str, object: &Path, entries: &[&str]) -> Result<(u64, Vec<String>)> {
    let calls =
        Calls::read(&cmd!("{cross}objdump --disassemble --reloc --no-show-raw-insn {object}").read()?)?;
    for entry in entries {
        ensure!(calls.frames.contains_key(*entry), "{} has no function {entry}", object.display());
    }
    let is_asked = |function: &&String| entries.is_empty() || entries.contains(&function.as_str());
    let depths = calls.frames.keys().filter(is_asked).map(|function| calls.depth(function, &mut Vec::new()));
    depths.collect::<Result<Vec<_>>>()?.into_iter().max().context("an object without functions")
}

impl Calls {
    fn read(disassembly: &str) -> Result<Self> {
        let mut calls = Self::default();
        let mut function = String::new();
        let mut callers = BTreeSet::new();
        for line in disassembly.lines() {
            if let Some(name) = line.strip_suffix(">:").and_then(|start| start.split_once(" <")) {
                name.1.clone_into(&mut function);
                calls.frames.insert(function.clone(), 0);
                continue;
            }
            match effect(line) {
                // What a function takes in several places is not taken at once, but may be.
                Effect::Takes(bytes) => *calls.frames.entry(function.clone()).or_default() += bytes,
                Effect::None => {}
                Effect::Unknown => bail!("{function}: unknown use of the stack pointer: {}", line.trim()),
            }
            if line.contains("\tcall") && callers.insert(function.clone()) {
                // x86: the return address, of one callee at a time
                *calls.frames.entry(function.clone()).or_default() += 8;
            }
            if let Some(target) = referred(line)
                && target != function
            {
                calls.edges.entry(function.clone()).or_default().insert(target);
            }
        }
        Ok(calls)
    }

    fn depth(&self, function: &str, path: &mut Vec<String>) -> Result<(u64, Vec<String>)> {
        if path.iter().any(|above| above == function) {
            bail!("{function} calls itself by way of {}", path.join(", "));
        }
        path.push(function.to_owned());
        let mut deepest = (0, Vec::new());
        for target in self.edges.get(function).into_iter().flatten() {
            if self.frames.contains_key(target) {
                let below = self.depth(target, path)?;
                if below.0 > deepest.0 {
                    deepest = below;
                }
            }
        }
        path.pop();
        deepest.1.insert(0, function.to_owned());
        Ok((deepest.0 + self.frames.get(function).copied().unwrap_or(0), deepest.1))
    }
}

/// What an instruction does to the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It takes so many bytes.
    Takes(u64),
    /// It gives bytes back, or leaves the stack pointer alone.
    None,
    /// It writes the stack pointer in a way that cannot be counted.
    Unknown,
}

/// What the instruction on this line does to the stack pointer.
///
/// Every instruction whose destination is the stack pointer must be one of a known form: one that was not counted would
/// make the limit hold for code that breaks it.
fn effect(line: &str) -> Effect {
    let Some((_, instruction)) = line.split_once(":\t") else { return Effect::None };
    let (name, operands) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    // Behind the operands stand objdump's remarks.
    let operands = operands.split(['\t', ';', '@', '<']).next().unwrap_or_default().trim();
    let words: Vec<&str> = operands.split(',').map(str::trim).collect();
    match (name, &words[..]) {
        // ARM's lists of registers: 4 bytes each, 8 a double one.
        ("push" | "vpush", [first, ..]) if first.starts_with('{') => {
            let bytes = if first.starts_with("{d") { 8 } else { 4 };
            Effect::Takes(bytes * words.iter().map(|word| registers(word)).sum::<u64>())
        }
        (_, ["sp!", list @ ..]) if name.starts_with("st") => {
            Effect::Takes(4 * list.iter().map(|word| registers(word)).sum::<u64>())
        }
        // Without `!` they store at and above where it points, and leave it there.
        ("stm" | "stmia" | "stmib", ["sp", first, ..]) if first.starts_with('{') => Effect::None,
        ("push" | "pushq", _) => Effect::Takes(8),
        // x86, ARM and ARM64
        ("sub", [bytes, "%rsp"]) | ("sub" | "sub.w" | "subw", ["sp", "sp", bytes]) => takes(number(bytes)),
        ("sub", ["sp", "sp", bytes, "lsl #12"]) => takes(number(bytes).map(|bytes| bytes << 12)),
        // x86, where adding a negative number has the shorter form for 128, and MIPS
        ("add", [bytes, "%rsp"]) | ("addiu" | "daddiu", ["sp", "sp", bytes]) => gives(number(bytes)),
        ("add" | "add.w" | "addw", ["sp", "sp", bytes, ..]) if bytes.starts_with('#') => Effect::None,
        // Stores that move the stack pointer first, loads that move it afterwards.
        (_, [.., "[sp", offset]) if offset.ends_with("]!") => gives(number(offset.trim_end_matches("]!"))),
        (_, [.., "[sp]", offset]) if offset.starts_with("#-") => Effect::Unknown,
        // Back to the frame pointer, or to where it was saved: what lies above was counted. And reads that name the
        // stack pointer where others have the destination.
        ("mov" | "lea", [from, "%rsp"]) if *from == "%rbp" || from.ends_with("(%rbp)") => Effect::None,
        ("sub" | "sub.w", ["sp", "fp" | "r7" | "r11" | "x29", bytes]) if bytes.starts_with('#') => {
            Effect::None
        }
        ("move", ["sp", "s8"])
        | ("mov", ["sp", "fp" | "r7" | "r11" | "x29"])
        | ("cmp" | "cmpq" | "test" | "testq" | "cmn" | "tst" | "sw" | "sd", _) => Effect::None,
        (_, ["sp", ..] | [.., "%rsp"]) => Effect::Unknown,
        _ => Effect::None,
    }
}

fn takes(bytes: Option<i64>) -> Effect {
    // Few enough to be a frame.
    match bytes.map(u32::try_from) {
        Some(Ok(bytes)) => Effect::Takes(bytes.into()),
        Some(Err(_)) => Effect::None,
        None => Effect::Unknown,
    }
}

fn gives(bytes: Option<i64>) -> Effect {
    takes(bytes.map(i64::wrapping_neg))
}

fn number(text: &str) -> Option<i64> {
    let text = text.strip_prefix(['#', '$']).unwrap_or(text);
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(number.cast_signed().wrapping_mul(sign))
}

/// How many registers a word of a list names: `r4` is one, `r4-r7` four.
fn registers(word: &str) -> u64 {
    let index = |name: &str| name.trim_start_matches('r').parse::<u64>().ok();
    match word.trim_matches(['{', '}']).split_once('-') {
        Some((first, last)) => index(last).zip(index(first)).map_or(16, |(last, first)| last - first + 1),
        None => 1,
    }
}

/// The function that this line's relocation or call names.
fn referred(line: &str) -> Option<String> {
    let name = if let Some((_, call)) = line.split_once(":\t").filter(|(_, rest)| rest.starts_with("call")) {
        call.split_once('<')?.1.trim_end_matches('>')
    } else {
        let (_, relocation) = line.split_once(": R_")?;
        relocation.split_once('\t')?.1
    };
    let name = name.split(['+', '-']).next()?;
    Some(name.strip_prefix(".text.").unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as objdump writes them: MIPS, x86, ARM, ARM64.
    const TAKE: &str = "addiu\tsp,sp,-368 =368
push   %rbx =8
push   0x10(%rsp) =8
push   $0x1 =8
sub    $0x1f8,%rsp =504
add    $0xffffffffffffff80,%rsp =128
push\t{r4, r5, r6, lr} =16
push\t{r4-r7, lr} =20
vpush\t{d8} =8
stmdb\tsp!, {r4, r5} =8
sub\tsp, sp, #52\t; 0x34 =52
str\tlr, [sp, #-4]! =4
sub\tsp, sp, #0x34 =52
sub\tsp, sp, #0x1, lsl #12 =4096
stp\tx29, x30, [sp, #-96]! =96";
    const LEAVE: &str = "addiu\tsp,sp,368|move\tsp,s8|sw\tra,28(sp)|\
        pop    %rbx|add    $0x80,%rsp|mov    %rsp,%rbp|mov    0x8(%rsp),%rax|lea    -0x28(%rbp),%rsp|ret|\
        ldmia\tsp!, {r4, pc}|stm\tsp, {r3, r4}|stmib\tsp, {r0, r7}|add\tsp, sp, #52\t@ 0x34|sub\tsp, fp, #28|\
        add\tsp, sp, #0x1, lsl #12|mov\tsp, x29|stp\tx20, x19, [sp, #16]|ldp\tx29, x30, [sp], #96|sub\tx0, x1, #16";
    const UNKNOWN: &str = "subu\tsp,sp,v0|move\tsp,v0|\
        sub    %rax,%rsp|and    $0xffffffffffffffe0,%rsp|mov    %rax,%rsp|pop    %rsp|\
        sub\tsp, sp, r3|sub\tsp, sp, x9|mov\tsp, x9|str\tx0, [sp], #-16|ldm\tsp, {r3, sp}|stmdb\tsp, {r3}";

    #[test]
    fn what_an_instruction_takes_from_the_stack_is_counted() {
        let check = |line: &str, expected| assert_eq!(effect(&format!("   0:\t{line}")), expected, "{line}");
        for (line, bytes) in TAKE.lines().filter_map(|line| line.rsplit_once(" =")) {
            check(line, Effect::Takes(bytes.parse().unwrap()));
        }
        LEAVE.split('|').for_each(|line| check(line, Effect::None));
        UNKNOWN.split('|').for_each(|line| check(line, Effect::Unknown));
    }

    #[test]
    fn an_unknown_use_of_the_stack_pointer_is_an_error() {
        let text = "00000000 <f>:\n   0:\tsub\tsp, sp, x9\n";
        assert!(Calls::read(text).is_err());
    }

    #[test]
    fn the_deepest_chain_of_calls_counts() {
        let text = "\
00000000 <top>:
   0:\taddiu\tsp,sp,-16
\t\t\t4: R_MIPS_26\t.text.small
\t\t\t8: R_MIPS_HI16\tlarge

00000000 <small>:
   0:\taddiu\tsp,sp,-100

00000000 <large>:
   0:\tsub    $0x40,%rsp
   4:\tpush   %rbx
   8:\tcall   10 <deep+0x10>
   c:\tcall   10 <deep+0x10>

00000000 <deep>:
   0:\tadd    $0xffffffffffffff80,%rsp
";
        let calls = Calls::read(text).unwrap();
        let (depth, path) = calls.depth("top", &mut Vec::new()).unwrap();
        assert_eq!((depth, path.join(" ")), (16 + 64 + 8 + 8 + 128, "top large deep".to_owned()));
    }
}
