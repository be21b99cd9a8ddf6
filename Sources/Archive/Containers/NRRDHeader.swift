import Geometry
import Glibc
import Imaging

/// The header of an NRRD file: fields up to the first blank line (teem.sourceforge.net/nrrd/format.html).
enum NRRDHeader {
    static func image(_ bytes: [UInt8]) throws(ContainerError) -> ContainerImage {
        func damaged(_ what: String) -> ContainerError {
            ContainerError("container-header", "The NRRD header is damaged: \(what). Write the file again with an NRRD tool.")
        }
        var fields: [String: String] = [:]
        var files: [String] = []
        var position = 0
        guard let first = TextHeader.line(bytes, at: 0), first.text.hasPrefix("NRRD000") else { throw damaged("the magic is missing") }
        position = first.next
        var ended = false
        while position < min(bytes.count, TextHeader.largest), let (text, next) = TextHeader.line(bytes, at: position) {
            position = next
            if text.isEmpty { ended = true; break }
            if text.hasPrefix("#") { continue }
            // "key:=value" is free text; "field: value" counts.
            guard let colon = text.firstIndex(of: ":") else { throw damaged("a line is neither a field nor a comment") }
            let after = text.index(after: colon)
            if after < text.endIndex, text[after] == "=" { continue }
            let key = TextHeader.trimmed(text[..<colon]).lowercased(), value = TextHeader.trimmed(text[after...])
            fields[key] = value
            if key == "data file" || key == "datafile" {
                let words = TextHeader.words(value)
                if words.first == "LIST" {
                    while let (name, next) = TextHeader.line(bytes, at: position), !name.isEmpty, files.count < 1 << 16 {
                        files.append(TextHeader.trimmed(name)); position = next
                    }
                    ended = true
                    break
                }
                if words.count >= 4, words[0].contains("%"), let a = Int(words[1]), let b = Int(words[2]), let step = Int(words[3]) {
                    guard let names = TextHeader.names(pattern: words[0], a, b, step) else { throw damaged("the pattern of data files is not understood") }
                    files = names
                } else {
                    files = [value]
                }
            }
        }
        guard ended || !files.isEmpty else { throw damaged("the blank line at its end is missing") }

        var image = ContainerImage()
        image.offset = position
        image.files = files
        func field(_ names: String...) -> String? { for n in names { if let v = fields[n] { return v } }; return nil }

        switch field("type")?.lowercased() {
        case "signed char", "int8", "int8_t": image.sample = .int8
        case "uchar", "unsigned char", "uint8", "uint8_t": image.sample = .uint8
        case "short", "short int", "signed short", "signed short int", "int16", "int16_t": image.sample = .int16
        case "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t": image.sample = .uint16
        case "int", "signed int", "int32", "int32_t": image.sample = .int32
        case "uint", "unsigned int", "uint32", "uint32_t": image.sample = .uint32
        case "longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t": image.sample = .int64
        case "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t": image.sample = .uint64
        case "float": image.sample = .float32
        case "double": image.sample = .float64
        case let other: throw ContainerError("container-type", "NRRD type \"\(other ?? "")\" is not supported (integers of 8 to 64 bits, float and double are).")
        }
        switch field("encoding")?.lowercased() {
        case "raw": image.encoding = .raw
        case "gzip", "gz": image.encoding = .deflated
        case "ascii", "text", "txt": image.encoding = .text
        case let other: throw ContainerError("container-encoding", "NRRD encoding \"\(other ?? "")\" is not supported (raw, gzip and ascii are). Write the file again as gzip.")
        }
        if image.sample.bytes > 1, image.encoding != .text {
            switch field("endian")?.lowercased() {
            case "little": image.isBigEndian = false
            case "big": image.isBigEndian = true
            default: throw damaged("the field \"endian\" is missing")
            }
        }
        if let v = field("byte skip", "byteskip") {
            guard let n = Int(v), n >= -1, n == -1 ? image.encoding == .raw : true else { throw damaged("\"byte skip\" is not understood") }
            image.skip = n
        }
        if let v = field("line skip", "lineskip") {
            guard let n = Int(v), n >= 0 else { throw damaged("\"line skip\" is not understood") }
            image.linesToSkip = n
        }

        guard let dimension = field("dimension").flatMap({ Int($0) }), (1...16).contains(dimension),
              let sizes = field("sizes").flatMap({ TextHeader.integers($0) }), sizes.count == dimension, sizes.allSatisfy({ $0 > 0 }) else {
            throw damaged("\"dimension\" and \"sizes\" do not fit")
        }
        let kinds = field("kinds").map { TextHeader.words($0).map { $0.lowercased() } } ?? Array(repeating: "???", count: dimension)
        guard kinds.count == dimension else { throw damaged("\"kinds\" does not name each axis") }

        // Directions of the spatial axes; `nil` is "none".
        var directions: [Vector<Patient>?]? = nil
        if let text = field("space directions") {
            guard let d = Self.vectors(text), d.count == dimension else { throw damaged("\"space directions\" does not give each axis three numbers or none") }
            directions = d
        }
        let spatial: [Int]
        if let directions {
            spatial = (0..<dimension).filter { directions[$0] != nil }
        } else {
            // Without directions the kinds decide, else the fastest axes are space.
            let named = (0..<dimension).filter { kinds[$0] == "domain" || kinds[$0] == "space" }
            spatial = Array((named.isEmpty ? Array(0..<dimension) : named).prefix(3))
        }
        guard spatial.count == 3 || spatial.count == 2 else {
            throw ContainerError("container-dimensions", "The NRRD has \(spatial.count) spatial axes; 2 or 3 are supported.")
        }
        let others = (0..<dimension).filter { !spatial.contains($0) && sizes[$0] > 1 }
        guard others.count <= 1 else {
            throw ContainerError("container-dimensions", "The NRRD has \(others.count) axes beside space; one (time, list or colour) is supported.")
        }
        var stride = 1, axisStride: [Int] = []
        for n in sizes { axisStride.append(stride); stride = stride &* n }
        (image.columns, image.rows) = (sizes[spatial[0]], sizes[spatial[1]])
        image.slices = spatial.count == 3 ? sizes[spatial[2]] : 1
        image.strides = (axisStride[spatial[0]], axisStride[spatial[1]], spatial.count == 3 ? axisStride[spatial[2]] : 0, 0, 0)
        if let axis = others.first {
            let colours = ["rgb-color": 3, "3-color": 3, "rgba-color": 4, "4-color": 4]
            if let n = colours[kinds[axis]], n == sizes[axis], image.sample == .uint8 {
                image.channels = n; image.strides.channel = axisStride[axis]
            } else {
                image.times = sizes[axis]; image.strides.time = axisStride[axis]
            }
        }

        // Place in space.
        let flip: SIMD3<Double>
        switch field("space")?.lowercased() {
        case "left-posterior-superior", "lps", "left-posterior-superior-time", "lpst": flip = SIMD3(1, 1, 1)
        case "right-anterior-superior", "ras", "right-anterior-superior-time", "rast": flip = SIMD3(-1, -1, 1)
        case "left-anterior-superior", "las", "left-anterior-superior-time", "last": flip = SIMD3(1, -1, 1)
        default:
            flip = SIMD3(1, 1, 1)
            image.remarks.append(.init(.doubtful, "orientation-missing", "The NRRD header names no anatomical space: its axes are taken as left, posterior, superior."))
        }
        var scale = SIMD3<Double>(1, 1, 1)
        if let text = field("space units") {
            let units = text.split(separator: "\"").map { TextHeader.trimmed($0) }.filter { !$0.isEmpty }
            for (i, unit) in units.prefix(3).enumerated() {
                switch unit.lowercased() {
                case "m": scale[i] = 1000
                case "cm": scale[i] = 10
                case "um", "µm", "micron", "microns": scale[i] = 0.001
                default: break
                }
            }
        }
        var axes: [Vector<Patient>]
        if let directions {
            axes = spatial.map { directions[$0]! }
        } else {
            let spacings: [Double]
            if let text = field("spacings") {
                guard let all = TextHeader.numbers(text), all.count == dimension else { throw damaged("\"spacings\" does not give each axis a number") }
                spacings = spatial.map { all[$0].isFinite && all[$0] != 0 ? all[$0] : 1 }
            } else {
                spacings = spatial.map { _ in 1 }
                image.remarks.append(.init(.doubtful, "spacing-missing", "The NRRD header gives no spacing: 1 mm is assumed, lengths are not to be trusted."))
            }
            let unit: [Vector<Patient>] = [Vector(1, 0, 0), Vector(0, 1, 0), Vector(0, 0, 1)]
            axes = spacings.indices.map { unit[$0] * spacings[$0] }
        }
        if axes.count == 2 {
            axes.append(axes[0].cross(axes[1]).normalized ?? Vector(0, 0, 0))
            image.isStack = true
        }
        var origin = Point<Patient>(0, 0, 0)
        if let text = field("space origin") {
            guard let o = Self.vectors(text), o.count == 1, let v = o[0] else { throw damaged("\"space origin\" is not three numbers") }
            origin = Point(v.simd)
        } else if directions == nil, let text = field("axis mins", "axismins"), let all = TextHeader.numbers(text), all.count == dimension {
            for (i, axis) in spatial.enumerated() where all[axis].isFinite { origin.simd[i] = all[axis] }
        }
        let lps = flip * scale
        image.patientFromVoxel = Affine(x: Vector(axes[0].simd * lps), y: Vector(axes[1].simd * lps), z: Vector(axes[2].simd * lps), origin: Point(origin.simd * lps))
        return image
    }

    /// "(1,0,0) none (0,1,0)": vectors of two or three numbers; the third is 0 when missing. `nil` when not understood.
    private static func vectors(_ text: String) -> [Vector<Patient>?]? {
        var result: [Vector<Patient>?] = []
        var rest = text[...]
        while let c = rest.first {
            if c.isWhitespace { rest.removeFirst(); continue }
            if c == "(" {
                guard let close = rest.firstIndex(of: ")") else { return nil }
                let parts = rest[rest.index(after: rest.startIndex)..<close].split(separator: ",", omittingEmptySubsequences: false)
                guard parts.count == 2 || parts.count == 3 else { return nil }
                var v = SIMD3<Double>.zero
                for (i, part) in parts.enumerated() {
                    guard let number = Double(TextHeader.trimmed(part)) else { return nil }
                    v[i] = number
                }
                // A direction of NaNs is the second way to write "none".
                result.append(v.x.isNaN && v.y.isNaN ? nil : Vector(v))
                rest = rest[rest.index(after: close)...]
            } else {
                guard rest.hasPrefix("none") else { return nil }
                result.append(nil)
                rest = rest.dropFirst(4)
            }
        }
        return result
    }
}
