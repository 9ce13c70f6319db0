//! Driver for virtio NICs over MMIO (VIRTIO 1.2, sections 4.2 and 5.1).

use core::{
    mem,
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
    task::Context,
};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use pkd_board::Life;
use pkd_runtime::FRAME;
use static_cell::ConstStaticCell;
use virtio_drivers::{
    BufferDirection, Hal, PAGE_SIZE, PhysAddr,
    device::net::VirtIONetRaw,
    transport::{
        DeviceType, Transport,
        mmio::{MmioTransport, VirtIOHeader},
    },
};

/// The first of eight slots, each with a page of registers. Only their MAC addresses tell the NICs apart.
const FIRST: usize = 0x1000_1000;
const SLOTS: usize = 8;
const SLOT: usize = 0x1000;
/// Registers of a slot's interrupt (section 4.2.2).
const STATUS: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;

/// The length of a NIC's queues: how many frames it can receive before they are handled.
const QUEUE: usize = 16;
/// Length of a frame with virtio's header in bytes.
const BUFFER: usize = 1_536;
/// Pages shared with QEMU: three for each of four queues.
const PAGES: usize = 12;

static WAKER: AtomicWaker = AtomicWaker::new();

#[repr(C, align(4096))]
struct DmaPool([u8; PAGES * PAGE_SIZE]);

/// Physical and virtual addresses are the same, and memory is never freed.
struct IdentityHal;

// SAFETY: each page is handed out once, zeroed and aligned, and addresses are physical.
unsafe impl Hal for IdentityHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        static POOL: ConstStaticCell<DmaPool> = ConstStaticCell::new(DmaPool([0; PAGES * PAGE_SIZE]));
        static BASE: AtomicUsize = AtomicUsize::new(0);
        static USED: AtomicUsize = AtomicUsize::new(0);
        if let Some(pool) = POOL.try_take() {
            BASE.store(pool.0.as_mut_ptr().expose_provenance(), Ordering::Relaxed);
        }
        let first = USED.fetch_add(pages, Ordering::Relaxed);
        if first + pages > PAGES {
            defmt::panic!("virtio needs more than {} pages", PAGES);
        }
        let address = BASE.load(Ordering::Relaxed) + first * PAGE_SIZE;
        match NonNull::new(ptr::with_exposed_provenance_mut(address)) {
            Some(pointer) => (PhysAddr::try_from(address).unwrap_or_default(), pointer),
            None => defmt::panic!("no memory at 0"),
        }
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        let address = usize::try_from(paddr).unwrap_or_default();
        NonNull::new(ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        PhysAddr::try_from(buffer.as_ptr().expose_provenance()).unwrap_or_default()
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

type Raw = VirtIONetRaw<IdentityHal, MmioTransport<'static>, QUEUE>;

/// Handles a slot's interrupt: wakes the task that waits for frames.
pub(crate) fn on_interrupt(line: u32) {
    let Some(slot) =
        usize::try_from(line).ok().and_then(|line| line.checked_sub(1)).filter(|slot| *slot < SLOTS)
    else {
        return;
    };
    let base = FIRST + slot * SLOT;
    // SAFETY: the slot exists, and reading its interrupt status has no side effects.
    let status = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(base + STATUS)) };
    // SAFETY: acknowledging the interrupt only deasserts it.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(base + ACKNOWLEDGE), status) };
    WAKER.wake();
}

/// A running NIC.
pub(crate) struct VirtioNic {
    raw: Raw,
    buffers: &'static mut [[u8; BUFFER]; QUEUE],
    /// The buffer of each token in the receive queue.
    token_buffers: [usize; QUEUE],
    /// Always shown: this board has no watchdog.
    life: &'static Life,
}

/// Starts the NICs that QEMU has: one, or two, of which the one with the lower MAC address is the outside. Returns `None` if
/// there are none. Call it once.
pub(crate) fn find() -> Option<(VirtioNic, Option<VirtioNic>)> {
    static FIRST_BUFFERS: ConstStaticCell<[[u8; BUFFER]; QUEUE]> = ConstStaticCell::new([[0; BUFFER]; QUEUE]);
    static SECOND_BUFFERS: ConstStaticCell<[[u8; BUFFER]; QUEUE]> =
        ConstStaticCell::new([[0; BUFFER]; QUEUE]);
    static FIRST_LIFE: Life = Life::new();
    static SECOND_LIFE: Life = Life::new();
    let mut interfaces = (0..SLOTS).filter_map(raw);
    let one = VirtioNic::start(interfaces.next()?, FIRST_BUFFERS.take(), &FIRST_LIFE)?;
    let Some(other) = interfaces.next() else { return Some((one, None)) };
    let other = VirtioNic::start(other, SECOND_BUFFERS.take(), &SECOND_LIFE)?;
    Some(if one.hardware() < other.hardware() { (one, Some(other)) } else { (other, Some(one)) })
}

fn raw(slot: usize) -> Option<Raw> {
    let header = NonNull::new(ptr::with_exposed_provenance_mut::<VirtIOHeader>(FIRST + slot * SLOT))?;
    // SAFETY: the slot exists on this board. Only the interrupt handler also uses it, to acknowledge.
    let transport = unsafe { MmioTransport::new(header, SLOT) }.ok()?;
    if transport.device_type() != DeviceType::Network {
        // Dropping it would reset a device that has no driver.
        mem::forget(transport);
        return None;
    }
    Raw::new(transport).ok()
}

impl VirtioNic {
    fn start(raw: Raw, buffers: &'static mut [[u8; BUFFER]; QUEUE], life: &'static Life) -> Option<Self> {
        let mut nic = Self { raw, buffers, token_buffers: [0; QUEUE], life };
        for index in 0..QUEUE {
            nic.post_buffer(index)?;
        }
        nic.raw.enable_interrupts();
        Some(nic)
    }

    pub(crate) fn hardware(&self) -> [u8; 6] {
        self.raw.mac_address()
    }

    /// Where it reports that it works.
    pub(crate) fn life(&self) -> &'static Life {
        self.life
    }

    /// Passes a buffer to the NIC, to receive a frame into.
    fn post_buffer(&mut self, index: usize) -> Option<()> {
        let buffer = self.buffers.get_mut(index)?;
        // SAFETY: the buffer is static, and is not accessed until the NIC returns it.
        let token = unsafe { self.raw.receive_begin(buffer) }.ok()?;
        *self.token_buffers.get_mut(usize::from(token))? = index;
        Some(())
    }

    /// The next received frame: the index of its buffer, its offset and its length.
    fn next(&mut self) -> Option<(usize, usize, usize)> {
        let token = self.raw.poll_receive()?;
        let index = *self.token_buffers.get(usize::from(token))?;
        let buffer = self.buffers.get_mut(index)?;
        // SAFETY: this is the buffer that was posted with this token.
        let (header, length) = unsafe { self.raw.receive_complete(token, buffer) }.ok()?;
        Some((index, header, length))
    }
}

impl Driver for VirtioNic {
    type RxToken<'a> = RxFrame<'a>;
    type TxToken<'a> = TxFrame<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(RxFrame<'_>, TxFrame<'_>)> {
        WAKER.register(cx.waker());
        let (index, header, length) = self.next()?;
        // A reply may be sent while the frame is handled, so copy the frame and release the buffer first.
        let mut frame = [0; FRAME];
        let length = length.min(FRAME);
        let bytes = self.buffers.get(index).and_then(|buffer| buffer.get(header..header + length))?;
        frame.get_mut(..length)?.copy_from_slice(bytes);
        self.post_buffer(index)?;
        Some((RxFrame { frame, length, _nic: core::marker::PhantomData }, TxFrame(&mut self.raw)))
    }

    fn transmit(&mut self, _cx: &mut Context<'_>) -> Option<TxFrame<'_>> {
        Some(TxFrame(&mut self.raw))
    }

    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        self.life.show();
        // The emulated cable cannot be unplugged.
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.hardware())
    }
}

/// A received frame.
pub(crate) struct RxFrame<'a> {
    frame: [u8; FRAME],
    length: usize,
    _nic: core::marker::PhantomData<&'a ()>,
}

impl RxToken for RxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(self.frame.get_mut(..self.length).unwrap_or_default())
    }
}

/// Permission to send one frame.
pub(crate) struct TxFrame<'a>(&'a mut Raw);

impl TxToken for TxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = [0; FRAME];
        let frame = frame.get_mut(..len.min(FRAME)).unwrap_or_default();
        let result = f(frame);
        // `send` waits until QEMU has taken the frame. It fails only if the queue is full, and it is empty here.
        if self.0.send(frame).is_err() {
            defmt::warn!("cannot send a frame");
        }
        result
    }
}
