import FoundationEssentials

/// The shaders of this folder as SPIR-V, compiled with the package.
public enum Shaders {
    /// Names in alphabetical order: those of the files, with "Loads" behind it for the form of software drivers (see rays.comp).
    public static let names = compiled.keys.sorted()

    /// The words of a shader in the order of the machine; `nil`: there is none of that name.
    public static func words(_ name: String) -> [UInt32]? {
        compiled[name].flatMap { Data(base64Encoded: $0) }.map { data in
            [UInt32](unsafeUninitializedCapacity: data.count / 4) { words, count in
                count = data.copyBytes(to: UnsafeMutableRawBufferPointer(words)) / 4
            }
        }
    }
}
