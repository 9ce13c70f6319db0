//! Signed images over HTTP: what the board writes to its flash, and what embassy-boot makes of it.
//!
//! QEMU loads the board's image from a file, so no bootloader runs there. The bootloader of the hardware boards runs here, on the
//! flash that the board has written.

use std::{cell::RefCell, fs, path::Path as FilePath};

use anyhow::{Context, Result, ensure};
use embassy_boot::{AlignedBuffer, BootLoader, BootLoaderConfig, State};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use pkd_gateway::{
    Config, Inline, Mode, Pass, Protect, RULES, UpdateKey,
    update::{Identity, Version, public_key, sign},
};
use pkd_tests::Report;
use smoltcp::wire::EthernetAddress;

use crate::{
    link::{Link, netdev},
    machine::{Board, Machine, Tools},
    scenario::{COUNTERS, GATEWAY, NAS, ROUTER, START, Scenario, config},
    transfer::{TcpHost, ask_all},
};

/// The board's layout: see its `main.rs`.
const SLOT: u32 = 0x0008_0000;
const STATE: u32 = 0x0001_f000;
const SECTOR: usize = 0x1000;
/// What embassy-boot finds in its state while the slots are to be swapped.
const SWAP: [u8; 4] = [0xf0; 4];

/// Of the NIC inside.
const INSIDE: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x57]);
const SEED: [u8; 32] = [9; 32];
const BOARD: &str = "riscv32-virt";

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("update: a signed image is written and started; if it does not work, the board returns, and refuses it", || {
        accepted(tools)
    });
    report.check("update: an image that is not signed for this board changes nothing", || refused(tools));
}

fn updatable() -> Config<RULES> {
    let mut config = config();
    config.mode =
        Mode::Inline(Inline { vlans: None, protect: Protect::Host, ipv6: false, pass: Pass::default() });
    config.services.clear();
    config.rules.clear();
    config.update = Some(UpdateKey { key: public_key(&SEED), allow_older: false });
    config
}

/// A board with two NICs. All hosts are on its inside.
fn start(tools: &Tools) -> Result<(Scenario, Link)> {
    let mut links = None;
    let prepare = |flash: &crate::machine::Flash| {
        flash.configure(&updatable())?;
        flash.write(STATE, &[0xff; SECTOR])
    };
    let machine = Machine::start(tools, Board::Virt, prepare, |folder: &FilePath| {
        links = Some(
            Link::new(folder, "outside", Vec::new(), ROUTER)
                .and_then(|outside| Ok((outside, Link::new(folder, "inside", vec![NAS, ROUTER], ROUTER)?))),
        );
        let nic = |name, hardware| {
            let [option, device] = Board::Virt.nic(name, hardware);
            ["-netdev".to_owned(), netdev(folder, name), option, device]
        };
        // The lower address is the outside's, and the network stack's.
        [nic("outside", GATEWAY.hardware), nic("inside", INSIDE)].concat()
    })?;
    let (outside, inside) = links.context("no cables")??;
    let mut scenario = Scenario::around(machine, inside);
    scenario.machine.wait_for_log("link up")?;
    scenario.serve_time(START)?;
    Ok((scenario, outside))
}

/// Sends an image, and returns the response.
fn upload(scenario: &mut Scenario, from_port: u16, header: &[u8], image: &[u8]) -> Result<String> {
    let head = format!("POST /update HTTP/1.1\r\nContent-Length: {}\r\n\r\n", header.len() + image.len());
    let request = [head.as_bytes(), header, image].concat();
    let mut client = TcpHost::new(NAS);
    client.connect(GATEWAY.address, COUNTERS, from_port)?;
    ask_all(scenario, &mut [(&mut client, &request)])?.pop().context("no response")
}

fn image(first: u8) -> Vec<u8> {
    (0..20_000_u32).map(|at| first ^ (at * 7 / 5).to_le_bytes()[0]).collect()
}

fn identity(board: &str, version: &str) -> Result<Identity> {
    let version = Version::parse(version).context("not a version")?;
    Identity::new(board, version).context("the board's name is too long")
}

fn accepted(tools: &Tools) -> Result<String> {
    // Only an image that says what it is can be signed.
    let said = Identity::find(&fs::read(&tools.image)?).context("the image does not say what it is")?;
    ensure!(said == identity(BOARD, env!("CARGO_PKG_VERSION"))?, "the image says that it is {said:?}");
    let (mut scenario, _outside) = start(tools)?;
    let new = image(1);
    let header = sign(&SEED, &identity(BOARD, "0.2.0")?, &new).context("not signed")?;
    // Seven days without a time server would not change this: the board resets at once.
    scenario.link.time.reports = None;
    let response = upload(&mut scenario, 45_001, &header, &new)?;
    ensure!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    scenario.machine.wait_for_log("version 0.2.0 starts now")?;
    scenario.machine.wait_for_log("configuration OK")?;
    let flash = &scenario.machine.flash;
    ensure!(flash.read(SLOT, u32::try_from(new.len())?)? == new, "the slot has another image");
    ensure!(flash.read(STATE, 4)? == SWAP, "the bootloader is not told");

    // What the bootloader makes of it, twice: it starts the new image, and returns to the old one.
    let old = image(2);
    let pages = new.len().div_ceil(SECTOR);
    let length = u32::try_from((pages + 1) * SECTOR)?;
    let active = Ram::new(&old, pages * SECTOR);
    let dfu = Ram::new(&flash.read(SLOT, length)?, (pages + 1) * SECTOR);
    let state = Ram::new(&flash.read(STATE, u32::try_from(SECTOR)?)?, SECTOR);
    for (turn, expected) in [("first", &new), ("second", &old)] {
        let config = BootLoaderConfig { active: &active, dfu: &dfu, state: &state };
        let mut buffer = AlignedBuffer([0; SECTOR]);
        let booted = BootLoader::new(config).prepare_boot(buffer.as_mut());
        let booted = booted.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        ensure!(booted == State::Swap, "the {turn} time, the bootloader does {booted:?}");
        let started = active.0.borrow()[..expected.len()] == expected[..];
        ensure!(started, "the {turn} time, another image is started");
    }

    // The board finds the time, so it keeps its image.
    scenario.serve_time(START)?;
    let line = scenario.machine.wait_for_log("the new image works")?;
    let flash = &scenario.machine.flash;
    ensure!(flash.read(STATE, 4)? != SWAP, "the bootloader would return to the old image");
    let returned = (dfu.0.into_inner(), state.0.into_inner());
    after_return(&mut scenario, &returned, &header, &new)?;
    Ok(line)
}

/// Someone who captured an image sends it again after the board has returned from it, to have a reset each time. `returned` is what
/// the bootloader leaves in the second slot, and its state.
fn after_return(
    scenario: &mut Scenario,
    returned: &(Vec<u8>, Vec<u8>),
    header: &[u8],
    image_of_header: &[u8],
) -> Result<()> {
    let (slot, state) = returned;
    let config = |scenario: &Scenario, allow_older| {
        let mut config = updatable();
        config.update = Some(UpdateKey { key: public_key(&SEED), allow_older });
        scenario.machine.flash.configure(&config)
    };
    let bootloader_leaves = |scenario: &Scenario, state: &[u8]| {
        scenario.machine.flash.write(SLOT, slot)?;
        scenario.machine.flash.write(STATE, state)
    };
    let accepts = |scenario: &mut Scenario, name, from_port, header: &[u8], image: &[u8]| {
        let response = upload(scenario, from_port, header, image)?;
        ensure!(response.starts_with("HTTP/1.1 200 OK"), "{name}: {response}");
        scenario.machine.wait_for_log("starts now")?;
        scenario.machine.wait_for_log("link up")
    };

    bootloader_leaves(scenario, state)?;
    let response = upload(scenario, 45_002, header, image_of_header)?;
    let is_refused = response.starts_with("HTTP/1.1 422 ") && response.contains("did not find the time");
    ensure!(is_refused, "an image that the board has returned from: {response}");
    ensure!(scenario.machine.flash.read(STATE, 4)? != SWAP, "it would be started again");

    // The board reads its configuration when it starts, so each is for the upload after the next.
    config(scenario, true)?;
    let next = image(4);
    let next_header = sign(&SEED, &identity(BOARD, "0.3.0")?, &next).context("not signed")?;
    accepts(scenario, "the next image", 45_003, &next_header, &next)?;

    config(scenario, false)?;
    bootloader_leaves(scenario, state)?;
    accepts(scenario, "the same image, forced", 45_004, header, image_of_header)?;

    // The power failed before it was started: the slot has it, and the bootloader was never told.
    bootloader_leaves(scenario, &[0xff; SECTOR])?;
    accepts(scenario, "an image that was never started", 45_005, header, image_of_header)?;
    Ok(())
}

fn refused(tools: &Tools) -> Result<String> {
    let (mut scenario, _outside) = start(tools)?;
    let new = image(1);
    let altered = image(3);
    let header = |seed: &[u8; 32], board: &str, text: &str| {
        sign(seed, &identity(board, text)?, &new).context("not signed")
    };
    let table = [
        ("another key", header(&[8; 32], BOARD, "0.2.0")?, &new, "signature"),
        ("another board", header(&SEED, "mps2-an386", "0.2.0")?, &new, "another board"),
        ("an older version", header(&SEED, BOARD, "0.0.9")?, &new, "not newer"),
        ("the running version", header(&SEED, BOARD, env!("CARGO_PKG_VERSION"))?, &new, "not newer"),
        ("no header", [0; 128], &new, "not a signed image"),
    ];
    for (row, (name, header, image, expected)) in (0_u16..).zip(&table) {
        let response = upload(&mut scenario, 45_010 + row, header, image)?;
        ensure!(response.starts_with("HTTP/1.1 422 ") && response.contains(expected), "{name}: {response}");
        ensure!(scenario.machine.flash.read(SLOT, 4)? == [0; 4], "{name}: the slot was changed");
    }
    let response = upload(&mut scenario, 45_020, &header(&SEED, BOARD, "0.2.0")?, &altered)?;
    ensure!(response.starts_with("HTTP/1.1 422 ") && response.contains("digest"), "altered: {response}");
    ensure!(scenario.machine.flash.read(STATE, 4)? != SWAP, "an altered image would be started");
    ensure!(!scenario.machine.log()?.iter().any(|line| line.contains("starts now")), "it was started");
    Ok(format!("{} images", table.len() + 1))
}

/// Flash of the bootloader, in memory.
struct Ram(RefCell<Vec<u8>>);

impl Ram {
    /// Of this size, and erased behind `bytes`.
    fn new(bytes: &[u8], size: usize) -> Self {
        let mut all = bytes.to_vec();
        all.resize(size, 0xff);
        Self(RefCell::new(all))
    }
}

#[derive(Debug)]
struct RamError;

impl NorFlashError for RamError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl ErrorType for &Ram {
    type Error = RamError;
}

impl ReadNorFlash for &Ram {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), RamError> {
        let from = usize::try_from(offset).map_err(|_| RamError)?;
        bytes.copy_from_slice(self.0.borrow().get(from..from + bytes.len()).ok_or(RamError)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().len()
    }
}

impl NorFlash for &Ram {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), RamError> {
        let range =
            usize::try_from(from).map_err(|_| RamError)?..usize::try_from(to).map_err(|_| RamError)?;
        self.0.borrow_mut().get_mut(range).ok_or(RamError)?.fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), RamError> {
        let from = usize::try_from(offset).map_err(|_| RamError)?;
        let mut all = self.0.borrow_mut();
        let slots = all.get_mut(from..from + bytes.len()).ok_or(RamError)?;
        slots.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot &= byte);
        Ok(())
    }
}
