@testable import FrameCoding
import COpenH264
import Foundation
import Imaging
import Testing

@Suite struct VideoWriterTests {
    /// Boxes of a level: name, content.
    private func boxes(_ bytes: ArraySlice<UInt8>) -> [(name: String, content: ArraySlice<UInt8>)] {
        var list: [(String, ArraySlice<UInt8>)] = [], rest = bytes
        while rest.count >= 8 {
            let count = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            guard count >= 8, count <= rest.count else { Issue.record("a box of \(count) bytes in \(rest.count)"); return list }
            list.append((String(decoding: rest.dropFirst(4).prefix(4), as: UTF8.self), rest.dropFirst(8).prefix(count - 8)))
            rest = rest.dropFirst(count)
        }
        return list
    }
    private func inside(_ path: String, _ file: [UInt8]) throws -> ArraySlice<UInt8> {
        try path.split(separator: "/").reduce(file[...]) { content, name in try #require(boxes(content).first { $0.name == name }, "\(name) of \(path)").content }
    }
    private func number(_ bytes: ArraySlice<UInt8>, _ at: Int) -> Int { bytes.dropFirst(at).prefix(4).reduce(0) { $0 << 8 | Int($1) } }

    private func disc(_ k: Int, _ size: PixelSize) -> Raster {
        Raster(size: size, pixels: .grey((0..<size.count).map { i in
            let x = Double(i % size.width - size.width / 2 - k), y = Double(i / size.width - size.height / 2)
            return UInt8(min(255, max(0, 200 - 4 * (x * x + y * y).squareRoot())))
        }))
    }

    /// The index is read by hand, the pictures by the library's decoder: what was drawn comes back, in order, within what the coding loses.
    @Test(arguments: [PixelSize(96, 64), PixelSize(97, 51), PixelSize(8, 8)]) func picturesComeBackInOrder(_ size: PixelSize) throws {
        let count = 7, writer = try VideoWriter(size: size, rate: 5, quality: 90)
        for k in 0..<count { try writer.append(disc(k, size)) }
        let file = try writer.finished()
        #expect(boxes(file[...]).map(\.name) == ["ftyp", "moov", "mdat"])
        let width = max(16, (size.width + 1) / 2 * 2), height = max(16, (size.height + 1) / 2 * 2)
        let entry = try inside("moov/trak/mdia/minf/stbl/stsd", file).dropFirst(16)
        #expect(number(entry, 24) == width << 16 | height)
        let media = try inside("moov/trak/mdia/mdhd", file)
        #expect(number(media, 16) * 5 == number(media, 12) * count, "\(count) pictures of a fifth of a second")
        let configuration = try #require(boxes(entry.dropFirst(78)).first { $0.name == "avcC" }).content
        let sizes = try inside("moov/trak/mdia/minf/stbl/stsz", file), offset = number(try inside("moov/trak/mdia/minf/stbl/stco", file), 8)
        #expect(number(sizes, 8) == count)
        #expect(number(try inside("moov/trak/mdia/minf/stbl/stss", file), 8) == 1, "the first picture stands alone")
        let start: [UInt8] = [0, 0, 0, 1], bytes = Array(configuration)
        let sequence = Int(bytes[6]) << 8 | Int(bytes[7]), picture = Int(bytes[9 + sequence]) << 8 | Int(bytes[10 + sequence])
        let parameters = start + bytes[8..<8 + sequence] + start + bytes[(11 + sequence)..<(11 + sequence + picture)]
        var decoder: UnsafeMutablePointer<ISVCDecoder?>?
        WelsCreateDecoder(&decoder)
        let d = try #require(decoder)
        defer { WelsDestroyDecoder(d) }
        var settings = SDecodingParam()
        settings.sVideoProperty.eVideoBsType = VIDEO_BITSTREAM_AVC
        #expect(d.pointee!.pointee.Initialize!(d, &settings) == 0)
        var at = offset
        for k in 0..<count {
            let end = at + number(sizes, 12 + 4 * k)
            var stream = k == 0 ? parameters : []
            while at < end {
                let length = number(file[at...], 0)
                stream += start + file[(at + 4)..<(at + 4 + length)]
                at += 4 + length
            }
            var planes: [UnsafeMutablePointer<UInt8>?] = [nil, nil, nil], info = SBufferInfo()
            #expect(d.pointee!.pointee.DecodeFrameNoDelay!(d, stream, Int32(stream.count), &planes, &info) == dsErrorFree)
            let luma = try #require(planes[0]), stride = Int(info.UsrData.sSystemBuffer.iStride.0)
            guard case .grey(let wanted) = disc(k, size).pixels else { return }
            var worst = 0.0
            for y in 0..<size.height { for x in 0..<size.width {
                worst = max(worst, abs((Double(luma[y * stride + x]) - 16) * 255 / 219 - Double(wanted[y * size.width + x])))
            } }
            #expect(worst < 16, "picture \(k): a pixel is \(worst) levels off")
        }
    }

    @Test func noiseIsCodedCoarser() throws {
        let size = PixelSize(512, 512), writer = try VideoWriter(size: size, rate: 20, quality: 100)
        for k in 0..<3 { try writer.append(Raster(size: size, pixels: .grey((0..<size.count).map { UInt8(truncatingIfNeeded: ($0 &+ k &* 131) &* 2_654_435_761 >> 13) }))) }
        #expect(number(try inside("moov/trak/mdia/minf/stbl/stsz", try writer.finished()), 8) == 3)
    }

    @Test func whatCannotBeCodedIsRefused() throws {
        #expect(throws: CodingError.self) { try VideoWriter(size: PixelSize(4097, 16), rate: 5, quality: nil) }
        #expect(throws: CodingError.self) { try VideoWriter(size: PixelSize(4096, 4096), rate: 5, quality: nil) }
        #expect(throws: CodingError.self) { try VideoWriter(size: PixelSize(64, 64), rate: 5, quality: 0) }
        #expect(throws: CodingError.self) { try VideoWriter(size: PixelSize(64, 64), rate: 5, quality: nil).append(disc(0, PixelSize(32, 32))) }
        #expect(throws: CodingError.self) { try VideoWriter(size: PixelSize(64, 64), rate: 5, quality: nil).finished() }
    }
}
