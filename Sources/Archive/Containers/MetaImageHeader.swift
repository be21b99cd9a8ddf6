import Geometry
import Glibc
import Imaging

/// The header of a MetaImage: "Key = value" lines up to ElementDataFile (itk.org/Wiki/ITK/MetaIO/Documentation).
enum MetaImageHeader {
    private static let keys: Set<String> = ["ObjectType", "NDims", "ObjectSubType", "Comment", "TransformType"]

    /// Whether the first line is one that MetaImage headers begin with.
    static func isMetaImage(_ bytes: [UInt8]) -> Bool {
        guard let (text, _) = TextHeader.line(Array(bytes.prefix(512)), at: 0), let equals = text.firstIndex(of: "=") else { return false }
        return keys.contains(TextHeader.trimmed(text[..<equals]))
    }

    static func image(_ bytes: [UInt8]) throws(ContainerError) -> ContainerImage {
        func damaged(_ what: String) -> ContainerError {
            ContainerError("container-header", "The MetaImage header is damaged: \(what). Write the file again with a MetaImage tool.")
        }
        var fields: [String: String] = [:]
        var position = 0, ended = false
        while position < min(bytes.count, TextHeader.largest), let (text, next) = TextHeader.line(bytes, at: position) {
            position = next
            guard let equals = text.firstIndex(of: "=") else {
                if TextHeader.trimmed(text).isEmpty { continue }
                throw damaged("a line has no \"=\"")
            }
            let key = TextHeader.trimmed(text[..<equals])
            fields[key] = TextHeader.trimmed(text[text.index(after: equals)...])
            if key == "ElementDataFile" { ended = true; break }
        }
        guard ended, let dataFile = fields["ElementDataFile"] else { throw damaged("ElementDataFile is missing") }
        if let type = fields["ObjectType"], type.lowercased() != "image" {
            throw ContainerError("container-type", "The MetaImage holds an object of type \"\(type)\", not an image.")
        }

        var image = ContainerImage()
        image.offset = position
        func number(_ key: String) throws(ContainerError) -> Int? {
            guard let text = fields[key] else { return nil }
            guard let n = Int(text) else { throw damaged("\(key) is not a whole number") }
            return n
        }
        guard let dimensions = try number("NDims"), (2...4).contains(dimensions) else {
            throw ContainerError("container-dimensions", "MetaImage with NDims \(fields["NDims"] ?? "missing") is not supported (2 to 4 are).")
        }
        guard let sizes = fields["DimSize"].flatMap({ TextHeader.integers($0) }), sizes.count == dimensions, sizes.allSatisfy({ $0 > 0 }) else {
            throw damaged("DimSize does not give each axis a size")
        }
        image.columns = sizes[0]; image.rows = sizes[1]
        image.slices = dimensions > 2 ? sizes[2] : 1
        image.times = dimensions > 3 ? sizes[3] : 1
        image.isStack = dimensions == 2

        switch fields["ElementType"] {
        case "MET_CHAR": image.sample = .int8
        case "MET_UCHAR": image.sample = .uint8
        case "MET_SHORT": image.sample = .int16
        case "MET_USHORT": image.sample = .uint16
        case "MET_INT", "MET_LONG": image.sample = .int32
        case "MET_UINT", "MET_ULONG": image.sample = .uint32
        case "MET_LONG_LONG": image.sample = .int64
        case "MET_ULONG_LONG": image.sample = .uint64
        case "MET_FLOAT": image.sample = .float32
        case "MET_DOUBLE": image.sample = .float64
        case let other: throw ContainerError("container-type", "MetaImage element type \"\(other ?? "")\" is not supported (integers of 8 to 64 bits, float and double are).")
        }
        let channels = try number("ElementNumberOfChannels") ?? 1
        switch (channels, image.sample) {
        case (1, _): break
        case (3, .uint8), (4, .uint8): image.channels = channels
        default: throw ContainerError("container-type", "MetaImage with \(channels) channels of \(fields["ElementType"] ?? "") is not supported; 3 and 4 channels of MET_UCHAR are shown as colour.")
        }
        image.orderChannelsFirst()

        func flag(_ keys: String...) -> Bool { keys.contains { fields[$0].map { ["true", "t", "1", "yes"].contains($0.lowercased()) } ?? false } }
        image.isBigEndian = flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        if flag("CompressedData") {
            image.encoding = .deflated
        } else if let binary = fields["BinaryData"], binary.lowercased().hasPrefix("f") {
            image.encoding = .text
        }
        if let skip = try number("HeaderSize") {
            guard skip >= -1 else { throw damaged("HeaderSize is \(skip)") }
            image.skip = skip
        }
        if let text = fields["ElementToIntensityFunctionSlope"] {
            guard let v = Double(text), v.isFinite, v != 0 else { throw damaged("ElementToIntensityFunctionSlope is not a number") }
            image.slope = v
        }
        if let text = fields["ElementToIntensityFunctionOffset"] {
            guard let v = Double(text), v.isFinite else { throw damaged("ElementToIntensityFunctionOffset is not a number") }
            image.intercept = v
        }

        let words = TextHeader.words(dataFile)
        if dataFile.uppercased() == "LOCAL" {
            image.files = []
        } else if words.first == "LIST" {
            var names: [String] = []
            while let (name, next) = TextHeader.line(bytes, at: position), names.count < 1 << 16 {
                position = next
                if !TextHeader.trimmed(name).isEmpty { names.append(TextHeader.trimmed(name)) }
            }
            guard !names.isEmpty else { throw damaged("the list of data files is empty") }
            image.files = names
        } else if words.count >= 4, words[0].contains("%"), let a = Int(words[1]), let b = Int(words[2]), let step = Int(words[3]) {
            guard let names = TextHeader.names(pattern: words[0], a, b, step) else { throw damaged("the pattern of data files is not understood") }
            image.files = names
        } else {
            image.files = [dataFile]
        }

        func numbers(_ count: Int, _ keys: String...) throws(ContainerError) -> [Double]? {
            for key in keys {
                guard let text = fields[key] else { continue }
                guard let v = TextHeader.numbers(text), v.count == count, v.allSatisfy(\.isFinite) else { throw damaged("\(key) is not \(count) numbers") }
                return v
            }
            return nil
        }
        let n = dimensions
        let spacing = try numbers(n, "ElementSpacing", "ElementSize")
        if spacing == nil {
            image.remarks.append(.init(.doubtful, "spacing-missing", "The MetaImage header gives no spacing: 1 mm is assumed, lengths are not to be trusted."))
        }
        let matrix = try numbers(n * n, "TransformMatrix", "Rotation", "Orientation")
        let offset = try numbers(n, "Offset", "Position", "Origin")
        // Each row of TransformMatrix is the direction of one axis; ITK's world, and so MetaImage's, is left, posterior, superior.
        func axis(_ a: Int) -> Vector<Patient> {
            guard a < n else { return Vector(0, 0, 1) }
            var v = SIMD3<Double>.zero
            for i in 0..<min(n, 3) { v[i] = matrix.map { $0[a * n + i] } ?? (a == i ? 1 : 0) }
            return Vector(v) * (spacing?[a] ?? 1)
        }
        var origin = SIMD3<Double>.zero
        for i in 0..<min(n, 3) { origin[i] = offset?[i] ?? 0 }
        image.patientFromVoxel = Affine(x: axis(0), y: axis(1), z: axis(2), origin: Point(origin))
        return image
    }
}
