// The handlers, one for each path; routes.cc lists them. All may run on several
// threads, and throw ApiError or Error.
#pragma once

#include "serve/api.h"
#include "serve/service.h"

namespace mobe {

// completions.cc
ApiReply Complete(Service* service, const ApiRequest& request);
// chat.cc
ApiReply Chat(Service* service, const ApiRequest& request);
// messages.cc
ApiReply AnswerMessages(Service* service, const ApiRequest& request);
ApiReply CountMessageTokens(Service* service, const ApiRequest& request);
// information.cc
ApiReply ListModels(Service* service, const ApiRequest& request);
ApiReply DescribeModel(Service* service, const ApiRequest& request);
ApiReply RefuseEmbeddings(Service* service, const ApiRequest& request);
ApiReply Tokenize(Service* service, const ApiRequest& request);
ApiReply Detokenize(Service* service, const ApiRequest& request);
ApiReply ApplyTemplate(Service* service, const ApiRequest& request);
ApiReply ShowMetrics(Service* service, const ApiRequest& request);
ApiReply ShowProperties(Service* service, const ApiRequest& request);
ApiReply ShowReport(Service* service, const ApiRequest& request);

}  // namespace mobe
