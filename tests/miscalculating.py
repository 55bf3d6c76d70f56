"""A signed model file that does not compute what it promises. `resight sign` refuses to make one."""
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

# Around the seed of an Ed25519 key in PKCS #8 (RFC 8410).
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def ed25519(key, message):
    """The signature of a message by a key file of `resight keygen`, in hexadecimal digits."""
    seed = bytes.fromhex(Path(key).read_text().split()[1])
    with tempfile.TemporaryDirectory() as folder:
        der, text = Path(folder, "key.der"), Path(folder, "message")
        der.write_bytes(PKCS8 + seed)
        text.write_bytes(message)
        return subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", der, "-in", text],
                              check=True, capture_output=True).stdout.hex()


def miscalculating(model, key):
    """The bytes of the signed model file `model` with another golden result, its manifest and its
    signature by `key` in order."""
    data = bytearray(model)

    def place(name):
        member = members[name]
        return slice(member.offset_data, member.offset_data + member.size)

    def replace(name, before, after):
        content = bytes(data[place(name)])
        assert content.count(before) == 1 and len(before) == len(after), name
        data[place(name)] = content.replace(before, after)

    with tarfile.open(fileobj=io.BytesIO(model)) as archive:
        members = {member.name: member for member in archive}
    golden, manifest = "golden/0.logits.bin", "manifest.json"
    digest, signature = (lambda content: hashlib.sha256(content).hexdigest().encode()), ed25519(key, data[place(manifest)])
    before = digest(data[place(golden)])
    data[members[golden].offset_data + 1] ^= 0x10
    replace(manifest, before, digest(data[place(golden)]))
    # Its own sha256 is over itself with that field empty.
    own = json.loads(data[place(manifest)])["sha256"].encode()
    replace(manifest, own, digest(bytes(data[place(manifest)]).replace(own, b"")))
    replace("signature", signature.encode(), ed25519(key, data[place(manifest)]).encode())
    return bytes(data)
