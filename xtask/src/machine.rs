//! The machines that QEMU plays, and how to build for each.

use crate::{kernel, prelude::*};

/// One machine: the kernel and userland for it, and our artefacts built for both.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) system: System,
    /// The kernel's name of the architecture, and the prefix of the C compiler.
    pub(crate) kernel_arch: &'static str,
    pub(crate) cross: &'static str,
    /// Rust's target for code inside the kernel, and the compiler flags it takes there.
    pub(crate) kernel_target: &'static str,
    pub(crate) kernel_flags: &'static [&'static str],
    /// Whether that code is instrumented against data races.
    pub(crate) thread_sanitizer: bool,
    /// Cargo's profile for it.
    pub(crate) kernel_profile: &'static str,
    /// Rust's target for programs on Debian's userland; `None`: the host's own.
    pub(crate) user_target: Option<&'static str>,
    pub(crate) qemu: &'static str,
    pub(crate) qemu_arguments: &'static str,
    /// Extra words for the kernel's command line.
    pub(crate) console: &'static str,
    pub(crate) card: &'static Card,
    /// The parts of the tests that make up a whole run.
    pub(crate) parts: &'static str,
    /// Bytes that the module's code may take, and the stack of a packet; 0: not limited.
    pub(crate) text_limit: u64,
    pub(crate) stack_limit: u64,
}

/// Where kernel and userland come from, and which C library that is.
pub(crate) enum System {
    /// Debian's packages, with glibc: its name of the architecture, the package that depends on the kernel of today,
    /// and the one for its headers. `suite`: that of the kernel, if not the host's.
    Packages {
        architecture: &'static str,
        suite: Option<&'static str>,
        kernel: &'static str,
        headers: &'static str,
    },
    /// Debian's userland as another machine has it, on the newest kernel of Debian.
    NewestKernel { userland_of: &'static Machine },
    /// Debian's userland as another machine has it, on a kernel that is built.
    BuiltKernel { kernel: kernel::Source, userland_of: &'static Machine },
    /// Built from Debian's source packages, with musl, as on OpenWrt.
    Sources {
        kernel: kernel::Source,
        /// OpenWrt's name of the architecture.
        architecture: &'static str,
    },
}

/// A network card that QEMU plays.
pub(crate) struct Card {
    /// QEMU's name of it. Without an option ROM: nothing boots from the network, and the file is in a package
    /// of its own.
    pub(crate) device: &'static str,
    /// The kernel modules that drive it, in the order in which they are loaded.
    pub(crate) modules: &'static [&'static str],
}

const E1000: Card = Card { device: "e1000,romfile=", modules: &["e1000"] };

/// Machines of QEMU's own make, without a real one's PCI.
const VIRTIO: Card = Card { device: "virtio-net-device", modules: &["virtio_mmio", "virtio_net"] };

/// Needed in every kernel: nothing moves at load time, nobody unwinds. The soft back end is the
/// only one that keeps to integer registers.
const ANY_KERNEL: &[&str] = &[
    "-Crelocation-model=static",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=n",
    "-Csymbol-mangling-version=v0",
    "--cfg=sha2_backend=\"soft\"",
];

/// As the kernel wants its own code instrumented: accesses that are marked as such are told from others, and functions are
/// not counted. The calls that come into the code hide from the optimizer that nothing panics; a panic is an invalid instruction.
const THREAD_SANITIZER: &[&str] = &[
    "-Zunstable-options",
    "-Zsanitizer=thread",
    "-Cpanic=immediate-abort",
    "-Cllvm-args=-tsan-distinguish-volatile=1",
    "-Cllvm-args=-tsan-instrument-func-entry-exit=0",
];

/// What runs on every kernel.
const PARTS: &str = "match flood packages";

/// Besides, the kernel's verdicts against pkd-core's, and many keys.
const WITH_DIFFERENTIAL: &str = "match flood differential keys packages";

/// Bytes of stack that a packet may take on its way through the module.
const STACK_LIMIT: u64 = 1024;

const fn packages(architecture: &'static str, kernel: &'static str, headers: &'static str) -> System {
    System::Packages { architecture, suite: None, kernel, headers }
}

const MACHINES: &[Machine] = &[
    MIPSEL,
    X86_64,
    X86_64_6_12,
    Machine {
        name: "x86_64-5.10",
        system: System::Packages {
            architecture: "amd64",
            // Debian 11.
            suite: Some("bullseye"),
            kernel: "linux-image-amd64",
            headers: "linux-headers-amd64",
        },
        ..X86_64
    },
    Machine {
        name: "x86_64-unstable",
        parts: WITH_DIFFERENTIAL,
        system: System::NewestKernel { userland_of: &X86_64_6_12 },
        ..X86_64
    },
    Machine {
        name: "armhf",
        system: packages("armhf", "linux-image-armmp", "linux-headers-armmp"),
        kernel_arch: "arm",
        cross: "arm-linux-gnueabihf-",
        // Not armv7a-none-eabi: it calls __aeabi_memcpy, which the kernel does not give to modules.
        kernel_target: "armv7-unknown-linux-gnueabi",
        kernel_flags: &["-Ctarget-feature=+soft-float,-neon,-vfp2,-vfp3,-d32"],
        thread_sanitizer: false,
        kernel_profile: "small",
        user_target: Some("armv7-unknown-linux-gnueabihf"),
        qemu: "qemu-system-arm",
        qemu_arguments: "-M virt -cpu cortex-a15 -m 512 -smp 2",
        console: "console=ttyAMA0",
        card: &VIRTIO,
        parts: PARTS,
        text_limit: 0,
        stack_limit: STACK_LIMIT,
    },
    Machine {
        name: "arm64",
        system: packages("arm64", "linux-image-arm64", "linux-headers-arm64"),
        kernel_arch: "arm64",
        cross: "aarch64-linux-gnu-",
        kernel_target: "aarch64-unknown-none-softfloat",
        // x18 is the kernel's own; landing pads for CPUs that look for them.
        kernel_flags: &["-Zfixed-x18", "-Zbranch-protection=bti,pac-ret"],
        thread_sanitizer: false,
        kernel_profile: "small",
        user_target: Some("aarch64-unknown-linux-gnu"),
        qemu: "qemu-system-aarch64",
        qemu_arguments: "-M virt -cpu cortex-a53 -m 512 -smp 2",
        console: "console=ttyAMA0",
        card: &VIRTIO,
        parts: PARTS,
        text_limit: 0,
        stack_limit: STACK_LIMIT,
    },
    Machine {
        name: "mips",
        system: System::Sources { kernel: kernel::MIPS_MALTA, architecture: "mips_24kc" },
        cross: "mips-linux-gnu-",
        kernel_target: "mips-unknown-linux-musl",
        user_target: None,
        qemu: "qemu-system-mips",
        // A CPU without floating point, like the routers'.
        qemu_arguments: "-M malta -cpu 24Kc -m 256",
        ..MIPSEL
    },
];

const MIPSEL: Machine = Machine {
    name: "mipsel",
    system: packages("mipsel", "linux-image-4kc-malta", "linux-headers-4kc-malta"),
    kernel_arch: "mips",
    cross: "mipsel-linux-gnu-",
    kernel_target: "mipsel-unknown-linux-musl",
    // The kernel's own ABI: no GOT, no floating point, calls that reach from module space.
    kernel_flags: &["-Ctarget-feature=+soft-float,+noabicalls,+long-calls"],
    thread_sanitizer: false,
    kernel_profile: "small",
    user_target: Some("mipsel-unknown-linux-gnu"),
    qemu: "qemu-system-mipsel",
    qemu_arguments: "-M malta -cpu 24Kf -m 256",
    console: "console=ttyS0",
    card: &E1000,
    parts: PARTS,
    text_limit: 32 * 1024,
    stack_limit: STACK_LIMIT,
};

const X86_64: Machine = Machine {
    name: "x86_64",
    system: packages("amd64", "linux-image-amd64", "linux-headers-amd64"),
    kernel_arch: "x86",
    cross: "",
    kernel_target: "x86_64-unknown-none",
    // As Debian's kernels want calls, returns and branches; without `plt` there are relocations that the module loader
    // does not know.
    kernel_flags: &[
        "-Ccode-model=kernel",
        "-Cjump-tables=n",
        "-Zplt=yes",
        "-Zfunction-return=thunk-extern",
        "-Zretpoline-external-thunk",
        "-Zcf-protection=branch",
    ],
    thread_sanitizer: false,
    // Unrolled further, the hash alone would take the stack over its limit.
    kernel_profile: "small",
    user_target: None,
    qemu: "qemu-system-x86_64",
    qemu_arguments: "-M q35 -cpu qemu64 -m 512 -smp 2",
    console: "console=ttyS0",
    card: &E1000,
    parts: PARTS,
    text_limit: 0,
    stack_limit: STACK_LIMIT,
};

const X86_64_6_12: Machine = Machine {
    name: "x86_64-6.12",
    system: packages("amd64", "linux-image-6.12-amd64", "linux-headers-6.12-amd64"),
    parts: WITH_DIFFERENTIAL,
    ..X86_64
};

/// The machine with the sanitizer kernel.
const SANITIZERS: Machine = Machine {
    name: "x86_64-sanitizers",
    parts: "sanitizers",
    system: System::BuiltKernel { kernel: kernel::X86_64_SANITIZERS, userland_of: &X86_64_6_12 },
    qemu_arguments: "-M q35 -cpu qemu64 -m 1024 -smp 2",
    // The sanitizers take some for themselves.
    stack_limit: 0,
    ..X86_64
};

/// The machine whose kernel looks for data races.
const KCSAN: Machine = Machine {
    name: "x86_64-kcsan",
    parts: "match races",
    system: System::BuiltKernel { kernel: kernel::X86_64_KCSAN, userland_of: &X86_64_6_12 },
    thread_sanitizer: true,
    ..SANITIZERS
};

/// Machines whose kernels watch themselves. These take long to build, so [`or_all`] leaves them out.
pub(crate) const WATCHED: [&Machine; 2] = [&SANITIZERS, &KCSAN];

impl Machine {
    /// Whether its kernel watches itself, which slows everything down.
    pub(crate) fn is_watched(&self) -> bool {
        WATCHED.iter().any(|machine| machine.name == self.name)
    }

    /// The name of its instructions.
    pub(crate) fn architecture(&self) -> &str {
        self.kernel_target.split('-').next().unwrap_or_default()
    }

    pub(crate) fn is_big_endian(&self) -> bool {
        self.architecture() == "mips"
    }

    /// Whether its kernel is built, so that there is all that comes with the source.
    pub(crate) fn has_built_kernel(&self) -> bool {
        matches!(self.system, System::BuiltKernel { .. } | System::Sources { .. })
    }

    /// All compiler flags for code inside this machine's kernel.
    pub(crate) fn all_kernel_flags(&self) -> Vec<&'static str> {
        let sanitizer = if self.thread_sanitizer { THREAD_SANITIZER } else { &[] };
        ANY_KERNEL.iter().chain(self.kernel_flags).chain(sanitizer).copied().collect()
    }
}

/// All machines, those of [`WATCHED`] too.
pub(crate) fn all() -> impl Iterator<Item = &'static Machine> {
    MACHINES.iter().chain(WATCHED)
}

/// The machine of this name.
pub(crate) fn find(name: &str) -> Result<&'static Machine> {
    all().find(|machine| machine.name == name).with_context(|| {
        let known: Vec<_> = MACHINES.iter().map(|machine| machine.name).collect();
        format!("no machine is called {name:?}; there are {}", known.join(", "))
    })
}

/// These, or all where there is none.
pub(crate) fn or_all(named: Vec<&'static Machine>) -> Vec<&'static Machine> {
    if named.is_empty() { MACHINES.iter().collect() } else { named }
}
