//! The boards.

use crate::{
    NicKind,
    board::{Board, Chip, FlashLayout, UpdateLayout},
};

/// Length of a frame without VLAN tag and FCS in bytes.
const FRAME: usize = 1_514;
/// Length of a frame with a VLAN tag, without FCS, in bytes.
const TAGGED: usize = FRAME + 4;

/// The boards' driver removes the FCS; the NIC is promiscuous.
const LAN9118: NicKind =
    NicKind { name: "LAN9118", transmits: TAGGED, leaves_fcs: false, filters_mac: false, carries_tags: true };
const VIRTIO: NicKind = NicKind {
    name: "virtio NIC",
    transmits: TAGGED,
    leaves_fcs: false,
    filters_mac: false,
    carries_tags: true,
};
/// As embassy-stm32 0.6 sets it up: MACCR.CST is 0, so that the FCS stays (RM0433, section 58.11.1), and MACPFR.PR too.
/// Its buffers for transmission have 1,514 bytes, those for reception 1,536.
const STM32: NicKind = NicKind {
    name: "Ethernet MAC",
    transmits: FRAME,
    leaves_fcs: true,
    filters_mac: true,
    carries_tags: false,
};
/// As embassy-net-wiznet 0.3 sets it up, with its MAC filter (`Sn_MR`, bit 7). It drops full-size frames with a tag.
const W5500: NicKind =
    NicKind { name: "W5500", transmits: FRAME, leaves_fcs: false, filters_mac: true, carries_tags: false };
/// The same without its MAC filter, for a bridge.
const W5500_UNFILTERED: NicKind = NicKind { filters_mac: false, ..W5500 };
/// As the same driver sets it up, which leaves the MAC filter off (`Sn_MR`, bit 7). Its buffers have 1,514 bytes.
const W6300: NicKind = NicKind { name: "W6300", ..W5500_UNFILTERED };

/// The two sectors of emulated flash that hold the floor.
const EMULATED: FlashLayout =
    FlashLayout { base: 0x2100_0000, config: 0, other_config: None, floor: 0x0001_0000, floor_bytes: 0x2000 };
/// The last sector of 2 MiB, the three before it for the floor, and one before these.
const RP2350: FlashLayout = FlashLayout {
    base: 0x1000_0000,
    config: 0x001f_f000,
    other_config: Some(0x001f_b000),
    floor: 0x001f_c000,
    floor_bytes: 0x3000,
};

/// QEMU's Cortex-M4.
pub const MPS2_AN386: Board =
    Board { name: "mps2-an386", chip: Chip::Qemu, nics: &[&LAN9118], flash: EMULATED, updates: None };

/// QEMU's RISC-V, a bridge.
pub const RISCV32_VIRT: Board = Board {
    name: "riscv32-virt",
    chip: Chip::Qemu,
    nics: &[&VIRTIO, &VIRTIO],
    flash: FlashLayout { base: 0x8400_0000, ..EMULATED },
    // There is no bootloader in QEMU: tests read what it would.
    updates: Some(UpdateLayout {
        slot: 0x0008_0000,
        image_bytes: 0x0007_f000,
        state: 0x0001_f000,
        state_bytes: 0x1000,
    }),
};

/// The same as QEMU starts it with one NIC, so that both instruction sets run the tests of all modes.
pub const RISCV32_VIRT_ONE_NIC: Board = Board { nics: &[&VIRTIO], ..RISCV32_VIRT };

/// ST's NUCLEO-H743ZI and -H743ZI2.
pub const NUCLEO_H743ZI: Board = Board {
    name: "nucleo-h743zi",
    chip: Chip::Stm32,
    nics: &[&STM32],
    // The last sector of the second bank, and the two before it.
    flash: FlashLayout {
        base: 0x0800_0000,
        config: 0x001e_0000,
        other_config: None,
        floor: 0x001a_0000,
        floor_bytes: 0x0004_0000,
    },
    updates: None,
};

/// ST's NUCLEO-H563ZI.
pub const NUCLEO_H563ZI: Board = Board {
    name: "nucleo-h563zi",
    chip: Chip::Stm32,
    nics: &[&STM32],
    // The last sector of the second bank, and the three before it.
    flash: FlashLayout {
        base: 0x0800_0000,
        config: 0x001f_e000,
        other_config: None,
        floor: 0x001f_8000,
        floor_bytes: 0x6000,
    },
    updates: None,
};

/// WIZnet's W5500-EVB-Pico2.
pub const W5500_EVB_PICO2: Board = Board {
    name: "w5500-evb-pico2",
    chip: Chip::Rp2350,
    nics: &[&W5500],
    flash: RP2350,
    // The memory.x of w5500-evb-pico2-boot has the same addresses. Its image without the bootloader receives none.
    updates: Some(UpdateLayout {
        slot: 0x0010_0000,
        image_bytes: 0x000e_0000,
        state: 0x0001_0000,
        state_bytes: 0x1000,
    }),
};

/// WIZnet's W6300-EVB-Pico2.
pub const W6300_EVB_PICO2: Board =
    Board { name: "w6300-evb-pico2", chip: Chip::Rp2350, nics: &[&W6300], flash: RP2350, updates: None };

/// A W5500-EVB-Pico2 with another W5500, or a Pico 2 with two: a bridge.
pub const PICO2_TWO_W5500: Board = Board {
    name: "pico2-two-w5500",
    chip: Chip::Rp2350,
    nics: &[&W5500_UNFILTERED, &W5500_UNFILTERED],
    flash: RP2350,
    updates: None,
};

/// All boards.
pub const BOARDS: &[Board] = &[
    MPS2_AN386,
    RISCV32_VIRT,
    NUCLEO_H563ZI,
    NUCLEO_H743ZI,
    PICO2_TWO_W5500,
    W5500_EVB_PICO2,
    W6300_EVB_PICO2,
];

/// The board of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.name == name)
}
