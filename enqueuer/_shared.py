"""Memory that two processes share: a worker writes a large item into it, and whoever takes the item uses it there.

    this process: Stock                                  a worker process: Desk
    slot 7, free     --- COMPUTE epoch, index, slot 7 -->  slot 7, mapped
                     --- its file, once --------------->
    slot 7, leased   <-- SHARED the parts' sizes --------  the parts of the item were written to it
    slot 7, free, as soon as nothing refers to the mapping any more

Keeps: what shared memory adds to G6, G13, G20, G28.
Rules:
  1. A slot is written by one process: the one that was given it, until that has answered or is confirmed dead.
  2. A slot is given away only while nothing in this process refers to its mapping, which every view of it does. That is asked, by the count
     of its references, and never told by a finalizer: those run too early for cyclic garbage, and in the middle of anything.
  3. Here the mapping is private: what is written here, or in a fork, is a page of one's own. So a fork needs nothing but that the files of which
     it may have a view are not written again: a slot is never given away if there was a fork since it was leased, or while there is one.
  4. No memory has a name: it ends with the last process that has it open or mapped, whatever ends that.
  5. Whoever can't have shared memory does without: the item goes through the pipe, or is copied.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import mmap
import os
import resource
import socket
import sys
from collections.abc import Generator, Iterable, Sequence
from typing import Final, cast, final

from ._border import LINE
from ._runtime import identity
from ._types import Process

__all__ = ["Desk", "Slot", "Stock", "give"]

MOST: Final = 128
"""Slots of a run, unless fewer files may be open; other items go through the pipe."""

SHARE: Final = 16
"""A part that is smaller than this share of its slot is copied out: kept alone, it would keep too much."""

ROUND: Final = 64
"""After so many requests, slots are closed that were not used in the last such round."""

FEW: Final = 1 << 20
"""Bytes that are never too many for a slot."""

EXCESS: Final = 4
"""A slot that is so many times too large for the item that was in it is closed: large items may be rare."""

_numbers: Final = itertools.count()
"""No two slots of a process have the same number."""


def _places(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Return where parts of these sizes begin, and how much they take in all."""
    places: list[int] = []
    end = 0
    for size in sizes:
        places.append(end)
        end += -(-size // LINE) * LINE
    return places, end


@final
class Slot:
    """A piece of memory that workers write and this process reads."""

    __slots__ = ("_address", "_alone", "_memory", "closed", "fd", "forks", "number", "size", "used", "wanted")

    def __init__(self, fd: int) -> None:
        self.number: Final = next(_numbers)
        self.fd: Final = fd
        self.size = 0  # of its mapping
        self.wanted = 0  # what the last item took
        self.used = 0  # the round in which it was given away last
        self.forks: tuple[int, int] = (0, 0)  # as they were when it was leased
        self.closed = False
        self._memory: mmap.mmap | None = None
        self._alone: Final = object()  # which is referred to from here only
        self._address = 0

    def views(self, sizes: Sequence[int], pages: int) -> list[memoryview]:
        """Return the parts that were written to it, copies of small ones. It is leased as long as the others, or what was made of them, live.

        All are copies if it can't be mapped. `pages` is what tells of pages, -1 if nothing does.
        """
        places, end = _places(sizes)
        self.wanted = end
        if not (self.size >= end and self._clean(pages)) and not self._map():
            return [memoryview(self._read(place, size)) for place, size in zip(places, sizes, strict=True)]
        memory = cast("mmap.mmap", self._memory)
        return [
            memoryview(bytearray(memory[place : place + size]))
            if size * SHARE < self.size
            else memoryview((ctypes.c_char * size).from_buffer(memory, place)).cast("B")  # which ends where the part does
            for place, size in zip(places, sizes, strict=True)
        ]

    def leased(self) -> bool:
        """Whether anything else refers to its mapping (rule 2)."""
        return self._memory is not None and sys.getrefcount(self._memory) > sys.getrefcount(self._alone)

    def _map(self) -> bool:
        """Map the file over memory of one's own, which has no descriptor, whether that can be done."""
        size = os.fstat(self.fd).st_size
        self.forget()
        try:
            memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            _mapped(self.fd, size, mmap.MAP_PRIVATE | _FIXED, self._address)
        except OSError:  # a limit, or too many mappings
            return False
        self._memory, self.size = memory, size
        return True

    def _clean(self, pages: int) -> bool:
        """Drop pages that were written here: the file's are to be seen again. False if they can't be dropped: somebody has locked them."""
        count = self.size // mmap.PAGESIZE
        try:
            told = os.pread(pages, 8 * count, self._address // mmap.PAGESIZE * 8)
        except OSError:
            told = b""
        try:
            if len(told) < 8 * count or any(high & _THERE and not high & _OF_FILE for high in set(told[7::8])):
                cast("mmap.mmap", self._memory).madvise(mmap.MADV_DONTNEED)
        except OSError:
            return False
        return True

    def _read(self, place: int, size: int) -> bytearray:
        part = bytearray(size)
        view = memoryview(part)
        have = 0
        while have < size:
            have += os.preadv(self.fd, [view[have:]], place + have)
        return part

    def forget(self) -> None:
        """Let go of the mapping; who has a view keeps it."""
        self._memory, self.size = None, 0


_THERE: Final = 0xC0  # of the highest byte in which the system tells of a page: it is in memory, or swapped out,
_OF_FILE: Final = 0x20  # and it is the file's, not one's own

_C: Final = ctypes.CDLL(None, use_errno=True)
_C.mmap.restype = ctypes.c_void_p
_C.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_trim: Final = getattr(_C, "malloc_trim", None)  # of the GNU C library
_FIXED: Final = 0x10  # MAP_FIXED, the same number on every Linux but Alpha, MIPS and PA-RISC
_FAILED: Final = ctypes.c_void_p(-1).value


def _mapped(fd: int, size: int, how: int, address: int | None = None) -> int:
    """Map a file, by the system's own call: at a fixed address, or without a descriptor that the mapping would keep. Return the address."""
    found = cast("int | None", _C.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, how, fd, 0))
    if found is None or found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"{size:,} bytes of memory could not be mapped: {os.strerror(number)}")
    return found


@final
class Stock:
    """The slots of a run, in the process whose run it is. Guarded by the lock of the engine."""

    def __init__(self, process: Process) -> None:
        self._process: Final = process
        self._most: Final = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._slots: Final[set[Slot]] = set()
        self._free: Final[list[Slot]] = []
        self._lent: Final[list[Slot]] = []  # in the order in which they were
        self._taken = 0
        pages = process.keep(lambda: os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
        self._pages: Final = -1 if pages is None else pages
        process.parted.add(self)

    def take(self) -> Slot | None:
        """Return a slot to give to a worker; None if there is none to be had."""
        self._taken += 1
        if self._taken % ROUND == 0:
            self._trim()
        slot = self._found() or self._made()
        if slot is not None:
            slot.used = self._taken // ROUND
        return slot

    def _found(self) -> Slot | None:
        if self._free:
            return self._free.pop()
        forks = begun, ended = self._process.forks
        for slot in tuple(reversed(self._lent)):  # the last one is in the cache, and those that are not needed become old
            if not slot.leased():
                if begun != ended:  # rule 3
                    return None
                self._lent.remove(slot)
                if slot.forks == forks and slot.size <= max(EXCESS * slot.wanted, FEW):
                    return slot
                self._close(slot)
        return None

    def _made(self) -> Slot | None:
        if len(self._slots) >= self._most:
            return None
        fd = self._process.keep(lambda: os.memfd_create("enqueuer", os.MFD_CLOEXEC))
        if fd is None:
            return None
        slot = Slot(fd)
        self._slots.add(slot)
        return slot

    def vacate(self, slot: Slot) -> None:
        """Take back a slot that nothing was written to, or whose worker is dead (rule 1)."""
        self._free.append(slot)

    def views(self, slot: Slot, sizes: Sequence[int]) -> list[memoryview]:
        """Return the parts that were written to a slot. By the thread that it was given to, without the lock."""
        slot.forks = self._process.forks  # rule 3: before there is anything that a fork could have
        return slot.views(sizes, self._pages)

    def lend(self, slot: Slot) -> None:
        """Have a slot of which there are views come back by itself."""
        self._lent.append(slot)

    def _trim(self) -> None:
        """Close what is not needed any more: a list may have been dropped."""
        for slots in (self._free, self._lent):
            for slot in tuple(slots):
                if slot.used < self._taken // ROUND - 1 and not slot.leased():
                    slots.remove(slot)
                    self._close(slot)

    def close(self) -> None:
        """Let go of all memory, but of what is leased: that ends with its last view."""
        self._process.parted.discard(self)
        for slot in tuple(self._slots):
            self._close(slot)
        self._free.clear()
        self._lent.clear()
        if self._pages >= 0:
            self._process.drop(self._pages)

    def _close(self, slot: Slot) -> None:
        self._slots.discard(slot)
        slot.closed = True
        slot.forget()
        with contextlib.suppress(OSError):  # the host has closed it
            self._process.drop(slot.fd)

    def forget(self) -> None:
        """In a fork, which has no use for any but of what it has views."""
        for slot in self._slots:
            slot.forget()


@final
class Desk:
    """The slots that a worker process was given."""

    def __init__(self, channel: int, own: tuple[int, int], private: set[int]) -> None:
        self._channel: Final = channel
        self._own: Final = own  # what the channel was at the beginning: an item may have closed it, and opened another file since
        self._private: Final = private
        self._files: Final[dict[int, tuple[int, tuple[int, int]]]] = {}
        self._sheets: Final[dict[int, _Sheet]] = {}

    def place(self, number: int, parts: Sequence[bytes | memoryview]) -> bool:
        """Write the parts of an item to a slot; whether that could be done: an item may have closed any file, and there are limits."""
        if not self._has(number):
            return False
        places, end = _places(map(len, parts))
        sheet = self._sheets.get(number)
        if sheet is None or sheet.size < end:
            sheet = self._larger(number, end)
            if sheet is None:
                return False
        for place, part in zip(places, parts, strict=True):
            sheet.view[place : place + len(part)] = part
        return True

    def forget(self, numbers: Iterable[int]) -> None:
        """Let go of slots that are not used any more."""
        for number in numbers:
            if self._has(number):
                self._unmap(number)
                fd, own = self._files.pop(number)
                self._private.discard(fd)
                if identity(fd) == own:
                    os.close(fd)

    def _has(self, number: int) -> bool:
        """Whether the file of a slot is there. It was sent before anything that names it."""
        while number not in self._files:
            if identity(self._channel) != self._own:
                return False
            try:
                with _borrowed(self._channel) as one:
                    data, extra, _, _ = one.recvmsg(8, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return False
            if not data:
                return False
            fd = int.from_bytes(extra[0][2], sys.byteorder) if extra and extra[0][2] else -1
            self._files[int.from_bytes(data, "little")] = fd, identity(fd) if fd >= 0 else _NOTHING
            if fd >= 0:
                self._private.add(fd)
        return True

    def _larger(self, number: int, size: int) -> _Sheet | None:
        """Return a slot with so much memory at least, mapped."""
        fd, own = self._files[number]
        if identity(fd) != own or not _grow(fd, size):
            return None
        self._unmap(number)
        if _trim is not None:
            _trim(0)  # as much memory as was shared, the heap may keep of earlier items: what is free, but between what is not
        try:
            sheet = self._sheets[number] = _Sheet(fd, os.fstat(fd).st_size)
        except OSError:  # a limit on what is mapped
            return None
        return sheet

    def _unmap(self, number: int) -> None:
        sheet = self._sheets.pop(number, None)
        if sheet is not None:
            sheet.close()


_NOTHING: Final = 0, 0
"""Which file it is that was not received, as too many were open already: none."""


@final
class _Sheet:
    """A file that a worker process has mapped. No descriptor goes with it: an item may close any, and open another in its place."""

    def __init__(self, fd: int, size: int) -> None:
        self.size: Final = size
        self._address: Final = _mapped(fd, size, mmap.MAP_SHARED)
        _C.madvise(ctypes.c_void_p(self._address), ctypes.c_size_t(size), mmap.MADV_DONTFORK)  # what an item leaves behind has no use for it
        self.view: Final = memoryview((ctypes.c_char * size).from_address(self._address)).cast("B")

    def close(self) -> None:
        """Unmap it."""
        self.view.release()
        _C.munmap(ctypes.c_void_p(self._address), ctypes.c_size_t(self.size))


def _grow(fd: int, size: int) -> bool:
    """See to it that a file has so much memory, all of it: a page that can't be had later is the end of the process. False if a file may not."""
    step = max(mmap.PAGESIZE, 1 << max(size.bit_length() - 6, 0))
    size = -(-size // step) * step
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.ENOMEM}:
            return False
        free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
        raise MemoryError(f"an item needs {size:,} bytes of shared memory, which can't be had ({error.strerror}); {free:,} are free") from error
    return True


def give(channel: int, slot: Slot) -> None:
    """Send a slot to a worker."""
    with _borrowed(channel) as one:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, slot.fd.to_bytes(4, sys.byteorder))]
        one.sendmsg([slot.number.to_bytes(8, "little")], rights, socket.MSG_NOSIGNAL)  # socket.send_fds() forgets the flag on Python 3.11


@contextlib.contextmanager
def _borrowed(channel: int) -> Generator[socket.socket]:
    """A socket whose descriptor is somebody else's."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=channel)
    try:
        if one.gettimeout():  # the host's default
            one.setblocking(False)
        yield one
    finally:
        one.detach()
