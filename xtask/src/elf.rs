//! What binutils say of an object: sizes, undefined symbols, and how deep its calls go.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::run;

/// Symbols that `object` leaves to others.
pub(crate) fn undefined(cross: &str, object: &Path) -> Result<Vec<String>> {
    let text = run::output(run::command(format!("{cross}nm")).arg("--undefined-only").arg(object))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect())
}

/// Bytes of all sections whose name is `prefix` or begins with `prefix.`.
pub(crate) fn section_bytes(cross: &str, object: &Path, prefix: &str) -> Result<u64> {
    let text = run::output(run::command(format!("{cross}size")).arg("-A").arg(object))?;
    let mut total = 0;
    for line in text.lines() {
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

/// The deepest stack, in bytes, of a call of `function` within `object`, and the way down there.
///
/// Read from the disassembly: what each function takes from the stack pointer, and every function
/// that its code refers to. Calls out of the object, and through pointers, are not followed.
pub(crate) fn stack_depth(cross: &str, object: &Path, function: &str) -> Result<(u64, Vec<String>)> {
    let mut objdump = run::command(format!("{cross}objdump"));
    objdump.args(["--disassemble", "--reloc", "--no-show-raw-insn"]).arg(object);
    let calls = Calls::read(&run::output(&mut objdump)?);
    if !calls.frames.contains_key(function) {
        bail!("{} has no function {function}", object.display());
    }
    calls.depth(function, &mut Vec::new())
}

impl Calls {
    fn read(disassembly: &str) -> Self {
        let mut calls = Self::default();
        let mut function = String::new();
        let mut callers = BTreeSet::new();
        for line in disassembly.lines() {
            if let Some(name) = line.strip_suffix(">:").and_then(|start| start.split_once(" <")) {
                name.1.clone_into(&mut function);
                calls.frames.insert(function.clone(), 0);
                continue;
            }
            if let Some(taken) = stack_taken(line) {
                // What a function takes in several places is not taken at once, but may be.
                *calls.frames.entry(function.clone()).or_default() += taken;
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
        calls
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

/// Bytes that the instruction on this line takes from the stack.
fn stack_taken(line: &str) -> Option<u64> {
    let (_, instruction) = line.split_once(":\t")?;
    let (name, operands) = instruction.split_once(char::is_whitespace)?;
    let operands = operands.trim();
    let number = |text: &str| {
        let text = text.split(&['\t', ' ', ']', '@'][..]).next()?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    match name {
        // MIPS
        "addiu" => number(operands.strip_prefix("sp,sp,-")?),
        // x86_64, where `add` of a negative number has the shorter form for 128
        "push" if operands.starts_with('%') => Some(8),
        "sub" if operands.ends_with(",%rsp") => number(operands.strip_prefix('$')?.strip_suffix(",%rsp")?),
        "add" => Some(number(operands.strip_prefix('$')?.strip_suffix(",%rsp")?)?.wrapping_neg())
            .filter(|taken| *taken < 1 << 32),
        // ARM and ARM64
        "sub" => number(operands.strip_prefix("sp, sp, #")?),
        // ARM: 4 bytes a register
        "push" => Some(4 * operands.trim_matches(&['{', '}'][..]).split(',').map(registers).sum::<u64>()),
        // ARM64
        "stp" | "str" if operands.ends_with("]!") => number(operands.split_once("[sp, #-")?.1),
        _ => None,
    }
}

/// How many registers a word of a list names: `r4` is one, `r4-r7` four.
fn registers(word: &str) -> u64 {
    let index = |name: &str| name.trim().trim_start_matches('r').parse::<u64>().ok();
    match word.split_once('-') {
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

    #[test]
    fn what_an_instruction_takes_from_the_stack_is_counted() {
        let rows: [(&str, Option<u64>); 14] = [
            ("   0:\taddiu\tsp,sp,-368", Some(368)),
            ("   0:\taddiu\tsp,sp,368", None),
            ("   0:\tpush   %rbx", Some(8)),
            ("   0:\tsub    $0x1f8,%rsp", Some(504)),
            ("   0:\tadd    $0xffffffffffffff80,%rsp", Some(128)),
            ("   0:\tadd    $0x80,%rsp", None),
            ("   0:\tpush\t{r4, r5, r6, lr}", Some(16)),
            ("   0:\tpush\t{r4-r7, lr}", Some(20)),
            ("   0:\tsub\tsp, sp, #52\t; 0x34", Some(52)),
            ("   0:\tsub\tsp, sp, #0x34", Some(52)),
            ("   0:\tstp\tx29, x30, [sp, #-96]!", Some(96)),
            ("   0:\tstr\tx30, [sp, #-16]!", Some(16)),
            ("   0:\tstp\tx20, x19, [sp, #16]", None),
            ("   0:\tsub\tx0, x1, #16", None),
        ];
        for (row, (line, taken)) in rows.iter().enumerate() {
            assert_eq!(stack_taken(line), *taken, "row {row}: {line}");
        }
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
        let calls = Calls::read(text);
        let (depth, path) = calls.depth("top", &mut Vec::new()).unwrap();
        assert_eq!((depth, path.join(" ")), (16 + 64 + 8 + 8 + 128, "top large deep".to_owned()));
    }
}
