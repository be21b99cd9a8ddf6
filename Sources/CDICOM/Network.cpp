// DICOM network (PS3.7, PS3.8) through DCMTK: a provider that stores, answers searches and moves, and a user that echoes,
// searches, moves, gets and stores. Objects pass bit-preserving between line and disk.
#include "Internal.hpp"
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmdata/dcjson.h"
#include "dcmtk/dcmdata/dcpath.h"
#include "dcmtk/dcmnet/diutil.h"
#include "dcmtk/dcmnet/scppool.h"
#include "dcmtk/dcmnet/scpthrd.h"
#include "dcmtk/dcmnet/scu.h"
#include <algorithm>
#include <atomic>
#include <cctype>
#include <functional>
#include <sstream>
#include <thread>
#include <unistd.h>

using namespace cdicom;

namespace {

/// What is offered and accepted for storage. Not HTJ2K: DCMTK 3.6.7 aborts an association on syntaxes it does not know.
const char *const storageSyntaxes[] = {
    UID_LittleEndianExplicitTransferSyntax, UID_LittleEndianImplicitTransferSyntax, UID_JPEGProcess14SV1TransferSyntax,
    UID_JPEGProcess14TransferSyntax, UID_JPEGProcess1TransferSyntax, UID_JPEGProcess2_4TransferSyntax,
    UID_JPEGLSLosslessTransferSyntax, UID_JPEGLSLossyTransferSyntax, UID_JPEG2000LosslessOnlyTransferSyntax,
    UID_JPEG2000TransferSyntax, UID_RLELosslessTransferSyntax, UID_DeflatedExplicitVRLittleEndianTransferSyntax};

OFList<OFString> plainSyntaxes() {
    OFList<OFString> list;
    list.push_back(UID_LittleEndianExplicitTransferSyntax);
    list.push_back(UID_LittleEndianImplicitTransferSyntax);
    return list;
}

void check(const OFCondition &condition) {
    if (condition.bad()) throw Failure("network", "The peer or the line failed: %.200s.", condition.text());
}

std::string jsonOf(DcmDataset &data) {
    std::ostringstream text;
    DcmJsonFormatCompact format(OFFalse);
    text << "{";
    data.convertToUTF8();
    data.writeJson(text, format);
    text << "}";
    return text.str();
}

/// "tag=value" lines, tags as eight digits, to an identifier.
void fill(DcmItem &item, const char *lines) {
    std::istringstream text(lines);
    std::string line;
    while (std::getline(text, line)) {
        unsigned group, element;
        if (line.size() < 9 || sscanf(line.c_str(), "%4x%4x", &group, &element) != 2) continue;
        item.putAndInsertString(DcmTagKey(Uint16(group), Uint16(element)), line.c_str() + 9);
    }
}

std::unique_ptr<DcmSCU> user(const cdicom_peer &peer) {
    auto scu = std::make_unique<DcmSCU>();
    scu->setPeerHostName(peer.host);
    scu->setPeerPort(peer.port);
    scu->setPeerAETitle(peer.title);
    scu->setAETitle(peer.own_title);
    scu->setACSETimeout(peer.timeout);
    scu->setDIMSETimeout(peer.timeout);
    scu->setDIMSEBlockingMode(DIMSE_NONBLOCKING);
    scu->setMaxReceivePDULength(131072);
    return scu;
}

void connect(DcmSCU &scu) {
    check(scu.initNetwork());
    check(scu.negotiateAssociation());
}

void storeFiles(const cdicom_peer &peer, const std::vector<std::string> &paths, const std::function<void(bool)> &each) {
    // An association has 127 contexts; files come in runs of one class and syntax.
    for (size_t start = 0; start < paths.size();) {
        auto scu = user(peer);
        std::vector<std::pair<std::string, std::string>> contexts;
        size_t end = start;
        std::vector<bool> readable;
        for (; end < paths.size() && contexts.size() < 100; ++end) {
            DcmFileFormat file;
            OFString sopClass, syntax;
            const bool good = file.loadFileUntilTag(paths[end].c_str(), EXS_Unknown, EGL_noChange, DCM_MaxReadLength, ERM_autoDetect, DCM_StudyDate).good();
            readable.push_back(good);
            if (!good) continue;
            file.getDataset()->findAndGetOFString(DCM_SOPClassUID, sopClass);
            file.getMetaInfo()->findAndGetOFString(DCM_TransferSyntaxUID, syntax);
            const std::pair<std::string, std::string> context{sopClass.c_str(), syntax.c_str()};
            if (std::find(contexts.begin(), contexts.end(), context) == contexts.end()) {
                contexts.push_back(context);
                OFList<OFString> list;
                list.push_back(syntax);
                scu->addPresentationContext(sopClass, list);
            }
        }
        if (contexts.empty()) { for (; start < end; ++start) each(false); continue; }
        connect(*scu);
        for (size_t i = start; i < end; ++i) {
            Uint16 status = 0xFFFF;
            each(readable[i - start] && scu->sendSTORERequest(0, paths[i].c_str(), nullptr, status).good() && (status == 0 || (status & 0xF000) == 0xB000));
        }
        scu->releaseAssociation();
        start = end;
    }
}

}  // namespace

struct cdicom_provider {
    std::string spool;
    cdicom_provider_callbacks callbacks;
    std::vector<std::string> titles, peers;   // peers: "TITLE host port"
    std::string ownTitle;
    int timeout = 30;
    std::unique_ptr<DcmBaseSCPPool> pool;
    std::thread thread;
    std::atomic<unsigned> serial{0};
};

namespace {

/// Workers are made on the listening thread, without arguments.
thread_local cdicom_provider *pending = nullptr;

class Worker : public DcmThreadSCP {
    cdicom_provider *const owner = pending;

    bool knows(const OFString &title) const {
        if (owner->peers.empty()) return true;
        for (const auto &peer : owner->peers) if (peer.compare(0, peer.find(' '), title.c_str()) == 0) return true;
        return false;
    }

public:
    OFBool checkCalledAETitleAccepted(const OFString &title) override {
        if (owner->titles.empty()) return OFTrue;
        for (const auto &own : owner->titles) if (title == own.c_str()) return OFTrue;
        return OFFalse;
    }
    OFBool checkCallingAETitleAccepted(const OFString &title) override { return knows(title); }
    /// Peers given by number have to call from there; names are not looked up.
    OFBool checkCallingHostAccepted(const OFString &caller) override {
        bool isNumbered = !owner->peers.empty();
        for (const auto &peer : owner->peers) {
            const size_t start = peer.find(' ') + 1;
            const std::string host = peer.substr(start, peer.find(' ', start) - start);
            if (caller == host.c_str()) return OFTrue;
            isNumbered = isNumbered && isdigit(uint8_t(host[0]));
        }
        return isNumbered ? OFFalse : OFTrue;
    }
    void notifyDIMSEError(const OFCondition &) override {}

    OFCondition handleIncomingCommand(T_DIMSE_Message *message, const DcmPresentationContextInfo &context) override {
        switch (message->CommandField) {
        case DIMSE_C_STORE_RQ: return store(message->msg.CStoreRQ, context.presentationContextID);
        case DIMSE_C_FIND_RQ: return find(message->msg.CFindRQ, context.presentationContextID);
        case DIMSE_C_MOVE_RQ: return move(message->msg.CMoveRQ, context.presentationContextID);
        default: return DcmThreadSCP::handleIncomingCommand(message, context);
        }
    }

private:
    OFCondition store(T_DIMSE_C_StoreRQ &request, T_ASC_PresentationContextID id) {
        const std::string path = owner->spool + "/" + std::to_string(getpid()) + "-scp" + std::to_string(owner->serial++);
        Uint16 status = STATUS_STORE_Refused_OutOfResources;
        const OFCondition received = receiveSTORERequest(request, id, path.c_str());
        if (received.good()) status = owner->callbacks.stored(owner->callbacks.context, path.c_str());
        unlink(path.c_str());
        if (received.bad() && received != EC_Normal && !isConnected()) return received;
        return sendSTOREResponse(id, request, status);
    }

    OFCondition find(T_DIMSE_C_FindRQ &request, T_ASC_PresentationContextID id) {
        DcmDataset *identifier = nullptr;
        OFCondition result = receiveFINDRequest(request, id, identifier);
        if (result.bad()) { delete identifier; return result; }
        const std::string query = identifier ? jsonOf(*identifier) : "{}";
        delete identifier;
        char *answer = owner->callbacks.find(owner->callbacks.context, query.c_str());
        const Uint16 failed = STATUS_FIND_Failed_UnableToProcess;
        if (!answer) return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, failed, nullptr);
        // Identifiers are separated by form feeds.
        std::string all(answer);
        free(answer);
        for (size_t start = 0; start < all.size();) {
            size_t end = all.find('\f', start);
            if (end == std::string::npos) end = all.size();
            DcmDataset match;
            match.putAndInsertString(DCM_SpecificCharacterSet, "ISO_IR 192");
            fill(match, all.substr(start, end - start).c_str());
            if (checkForCANCEL(id, request.MessageID).good()) return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, STATUS_FIND_Cancel_MatchingTerminatedDueToCancelRequest, nullptr);
            result = sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, &match, STATUS_FIND_Pending_MatchesAreContinuing, nullptr);
            if (result.bad()) return result;
            start = end + 1;
        }
        return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, STATUS_FIND_Success_MatchingIsComplete, nullptr);
    }

    OFCondition move(T_DIMSE_C_MoveRQ &request, T_ASC_PresentationContextID id) {
        DcmDataset *identifier = nullptr;
        OFString destination;
        OFCondition result = receiveMOVERequest(request, id, identifier, destination);
        if (result.bad()) { delete identifier; return result; }
        const std::string query = identifier ? jsonOf(*identifier) : "{}";
        delete identifier;
        auto respond = [&](Uint16 status, size_t left, size_t done, size_t failed) {
            return sendMOVEResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, status, nullptr, Uint16(left), Uint16(done), Uint16(failed), 0);
        };
        char host[256];
        unsigned port = 0;
        bool known = false;
        for (const auto &peer : owner->peers) {
            char title[65];
            known = known || (sscanf(peer.c_str(), "%64s %255s %u", title, host, &port) == 3 && destination == title);
            if (known) break;
        }
        if (!known) return respond(STATUS_MOVE_Failed_MoveDestinationUnknown, 0, 0, 0);
        char *answer = owner->callbacks.locate(owner->callbacks.context, query.c_str());
        if (!answer) return respond(STATUS_MOVE_Failed_UnableToProcess, 0, 0, 0);
        std::vector<std::string> paths;
        std::istringstream lines(answer);
        for (std::string line; std::getline(lines, line);) if (!line.empty()) paths.push_back(line);
        free(answer);
        size_t done = 0, failed = 0;
        const cdicom_peer peer{host, uint16_t(port), destination.c_str(), owner->ownTitle.c_str(), owner->timeout};
        try {
            storeFiles(peer, paths, [&](bool good) {
                ++(good ? done : failed);
                if (done + failed < paths.size()) respond(STATUS_MOVE_Pending_SubOperationsAreContinuing, paths.size() - done - failed, done, failed);
            });
        } catch (const Failure &) {
            failed = paths.size() - done;
        }
        return respond(failed ? STATUS_MOVE_Warning_SubOperationsCompleteOneOrMoreFailures : STATUS_MOVE_Success_SubOperationsCompleteNoFailures, 0, done, failed);
    }
};

}  // namespace

cdicom_provider *cdicom_provider_start(const cdicom_provider_settings *settings, cdicom_error *error) {
    return guarded(error, (cdicom_provider *)nullptr, [&]() -> cdicom_provider * {
        auto provider = std::make_unique<cdicom_provider>();
        provider->spool = settings->spool;
        provider->callbacks = settings->callbacks;
        provider->ownTitle = settings->title;
        provider->timeout = settings->timeout;
        if (settings->checks_title) provider->titles.push_back(settings->title);
        for (size_t i = 0; i < settings->peer_count; ++i) provider->peers.push_back(settings->peers[i]);
        auto *pool = new DcmSCPPool<Worker>;
        provider->pool.reset(pool);
        pool->setMaxThreads(Uint16(settings->associations));
        DcmSCPConfig &config = pool->getConfig();
        config.setAETitle(settings->title);
        config.setPort(settings->port);
        config.setMaxReceivePDULength(131072);
        // The listener looks once a second whether it shall stop.
        config.setConnectionBlockingMode(DUL_NOBLOCK);
        config.setConnectionTimeout(1);
        config.setDIMSEBlockingMode(DIMSE_NONBLOCKING);
        config.setDIMSETimeout(settings->timeout);
        config.setACSETimeout(settings->timeout);
        config.setRespondWithCalledAETitle(OFTrue);
        config.setHostLookupEnabled(OFFalse);
        OFList<OFString> syntaxes;
        for (const char *syntax : storageSyntaxes) syntaxes.push_back(syntax);
        check(config.addPresentationContext(UID_VerificationSOPClass, plainSyntaxes()));
        for (const char *model : {UID_FINDStudyRootQueryRetrieveInformationModel, UID_FINDPatientRootQueryRetrieveInformationModel,
                                  UID_MOVEStudyRootQueryRetrieveInformationModel, UID_MOVEPatientRootQueryRetrieveInformationModel})
            check(config.addPresentationContext(model, plainSyntaxes()));
        for (int i = 0; i < numberOfDcmAllStorageSOPClassUIDs; ++i) check(config.addPresentationContext(dcmAllStorageSOPClassUIDs[i], syntaxes));
        cdicom_provider *raw = provider.get();
        // A port that is taken is told at once, not on the thread.
        check(pool->getConfig().getPort() ? EC_Normal : EC_IllegalParameter);
        provider->thread = std::thread([raw] {
            pending = raw;
            raw->pool->listen();
        });
        return provider.release();
    });
}

void cdicom_provider_stop(cdicom_provider *provider) {
    provider->pool->stopAfterCurrentAssociations();
    if (provider->thread.joinable()) provider->thread.join();
    delete provider;
}

bool cdicom_echo(const cdicom_peer *peer, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        scu->addPresentationContext(UID_VerificationSOPClass, plainSyntaxes());
        connect(*scu);
        check(scu->sendECHORequest(0));
        scu->releaseAssociation();
        return true;
    });
}

char *cdicom_network_find(const cdicom_peer *peer, const char *keys, cdicom_error *error) {
    return guarded(error, (char *)nullptr, [&]() -> char * {
        auto scu = user(*peer);
        const char *model = UID_FINDStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        DcmDataset query;
        query.putAndInsertString(DCM_SpecificCharacterSet, "ISO_IR 192");
        fill(query, keys);
        connect(*scu);
        OFList<QRResponse *> responses;
        const OFCondition result = scu->sendFINDRequest(scu->findPresentationContextID(model, ""), &query, &responses);
        std::string all = "[";
        for (QRResponse *response : responses) {
            if (response->m_dataset) all += (all.size() > 1 ? "," : "") + jsonOf(*response->m_dataset);
            delete response;
        }
        scu->releaseAssociation();
        check(result);
        return strdup((all + "]").c_str());
    });
}

static bool finish(OFList<RetrieveResponse *> &responses, const OFCondition &result, uint32_t *completed, uint32_t *failed) {
    *completed = *failed = 0;
    Uint16 status = 0;
    for (RetrieveResponse *response : responses) {
        *completed = response->m_numberOfCompletedSubops;
        *failed = response->m_numberOfFailedSubops;
        status = response->m_status;
        delete response;
    }
    check(result);
    if (status != 0 && (status & 0xF000) != 0xB000 && (status & 0xFF00) != 0xFF00) throw Failure("refused", "The peer refused with status %04X.", status);
    return true;
}

bool cdicom_network_move(const cdicom_peer *peer, const char *destination, const char *keys, uint32_t *completed, uint32_t *failed, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        const char *model = UID_MOVEStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        DcmDataset query;
        fill(query, keys);
        connect(*scu);
        OFList<RetrieveResponse *> responses;
        const OFCondition result = scu->sendMOVERequest(scu->findPresentationContextID(model, ""), destination, &query, &responses);
        scu->releaseAssociation();
        return finish(responses, result, completed, failed);
    });
}

bool cdicom_network_get(const cdicom_peer *peer, const char *keys, const char *const *classes, size_t class_count, const char *folder,
                        uint32_t *completed, uint32_t *failed, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        const char *model = UID_GETStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        OFList<OFString> syntaxes;
        for (const char *syntax : storageSyntaxes) syntaxes.push_back(syntax);
        if (class_count)
            for (size_t i = 0; i < class_count && i < 120; ++i) scu->addPresentationContext(classes[i], syntaxes, ASC_SC_ROLE_SCP);
        else
            for (int i = 0; i < numberOfDcmLongSCUStorageSOPClassUIDs && i < 120; ++i) scu->addPresentationContext(dcmLongSCUStorageSOPClassUIDs[i], syntaxes, ASC_SC_ROLE_SCP);
        scu->setStorageMode(DCMSCU_STORAGE_BIT_PRESERVING);
        scu->setStorageDir(folder);
        DcmDataset query;
        fill(query, keys);
        connect(*scu);
        OFList<RetrieveResponse *> responses;
        const OFCondition result = scu->sendCGETRequest(scu->findPresentationContextID(model, ""), &query, &responses);
        scu->releaseAssociation();
        return finish(responses, result, completed, failed);
    });
}

bool cdicom_network_store(const cdicom_peer *peer, const char *const *paths, size_t count, uint32_t *stored, cdicom_error *error) {
    return guarded(error, false, [&] {
        *stored = 0;
        std::vector<std::string> list(paths, paths + count);
        storeFiles(*peer, list, [&](bool good) { *stored += good; });
        return true;
    });
}
