"""A jar of one tiny class that hides the class path from Beam's job server, written without a Java compiler.

The job server stages every jar of its own class path with every job, whatever `--files_to_stage` says: it asks the
system property `java.class.path`, and 180 MB travel through Flink's BLOB server to the TaskManager, which has them
all on its class path already (11 of the 12 s that a submission took). The class here is what one would write as

    System.setProperty("java.class.path", <this jar>);
    FlinkJobServerDriver.main(arguments);

The JVM has built its class loader from the real path by then, so only the scan for jars is fooled.
"""

import struct
import zipfile
from pathlib import Path

CLASS_NAME = "HorizonLauncher"
_JAVA_8 = 52  # the newest class file version that needs no stack map frames for code without a branch
_PUBLIC, _PUBLIC_STATIC, _SUPER = 0x0001, 0x0009, 0x0020


class _Constants:
    """A class file's constant pool; each method gives the index of an entry, made when it is new."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def _index(self, entry: bytes) -> int:
        if entry not in self.entries:
            self.entries.append(entry)
        return self.entries.index(entry) + 1

    def utf8(self, text: str) -> int:
        data = text.encode()
        return self._index(struct.pack(">BH", 1, len(data)) + data)

    def type(self, name: str) -> int:
        return self._index(struct.pack(">BH", 7, self.utf8(name)))

    def string(self, text: str) -> int:
        return self._index(struct.pack(">BH", 8, self.utf8(text)))

    def method(self, owner: str, name: str, descriptor: str) -> int:
        signature = self._index(struct.pack(">BHH", 12, self.utf8(name), self.utf8(descriptor)))
        return self._index(struct.pack(">BHH", 10, self.type(owner), signature))


def launcher_class(main_class: str, property_name: str, property_value: str) -> bytes:
    """The class file: `main` sets one system property and calls the `main` of `main_class` (dots in its name)."""
    pool = _Constants()
    main_type = "([Ljava/lang/String;)V"
    set_property = pool.method(
        "java/lang/System", "setProperty", "(Ljava/lang/String;Ljava/lang/String;)Ljava/lang/String;"
    )
    call_main = pool.method(main_class.replace(".", "/"), "main", main_type)
    code = b"".join(
        (
            struct.pack(">BH", 0x13, pool.string(property_name)),  # ldc_w
            struct.pack(">BH", 0x13, pool.string(property_value)),  # ldc_w
            struct.pack(">BH", 0xB8, set_property),  # invokestatic
            b"\x57\x2a",  # pop the old value, aload_0: the arguments
            struct.pack(">BH", 0xB8, call_main),  # invokestatic
            b"\xb1",  # return
        )
    )
    body = struct.pack(">HHI", 2, 1, len(code)) + code + struct.pack(">HH", 0, 0)  # 2 on the stack, 1 local
    attribute = struct.pack(">HI", pool.utf8("Code"), len(body)) + body
    method = struct.pack(">HHHH", _PUBLIC_STATIC, pool.utf8("main"), pool.utf8(main_type), 1) + attribute
    this, parent = pool.type(CLASS_NAME), pool.type("java/lang/Object")
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, _JAVA_8, len(pool.entries) + 1) + b"".join(pool.entries)
    return head + struct.pack(">HHHHHH", _PUBLIC | _SUPER, this, parent, 0, 0, 1) + method + struct.pack(">H", 0)


def write_launcher(jar: Path, main_class: str) -> Path:
    """Write the jar; run it with the real class path, this jar first, and CLASS_NAME as main class."""
    jar.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
        archive.writestr(f"{CLASS_NAME}.class", launcher_class(main_class, "java.class.path", str(jar)))
    return jar
